"""What the operations have in common in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from tasks_app.api.errors import PROBLEM_TYPE
from tasks_app.api.idempotency import KEY_HEADER


class ProblemErrorOut(serializers.Serializer[Any]):
    pointer = serializers.CharField(
        required=False, help_text="The field in the body, as a JSON Pointer."
    )
    parameter = serializers.CharField(required=False, help_text="The query parameter.")
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemOut(serializers.Serializer[Any]):
    """An error (RFC 9457). `code` is stable, `detail` is for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    request_id = serializers.CharField()
    permission = serializers.CharField(
        required=False, help_text="The permission that is missing."
    )
    errors = ProblemErrorOut(  # type: ignore[assignment]  # a field, not the property
        many=True, required=False
    )


_PROBLEMS = {
    400: ("The request is malformed or has invalid fields.", "invalid"),
    401: ("Nobody is signed in.", "not_authenticated"),
    403: ("The permission named is missing.", "missing_permission"),
    404: ("There is no such thing.", "not_found"),
    409: ("The request does not fit the present state.", "conflict"),
    412: ("It has been changed since.", "version_mismatch"),
    413: ("The body is larger than 1 MiB.", "payload_too_large"),
    415: ("The body is not JSON.", "unsupported_media_type"),
    422: ("The Idempotency-Key came with another body.", "idempotency_key_reused"),
    429: ("As many runs of the task wait as may.", "too_many_queued_runs"),
    503: ("The database does not answer; see Retry-After.", "database_unavailable"),
}


def problems(*statuses: int, public: bool = False) -> dict[Any, Any]:
    """The error responses of an operation: these, and those that any may give."""
    always = {400, 503} if public else {400, 401, 403, 503}
    return {
        (status, PROBLEM_TYPE): OpenApiResponse(ProblemOut, _PROBLEMS[status][0])
        for status in sorted(always | set(statuses))
    }


def body_problems(*statuses: int) -> dict[Any, Any]:
    """The same, of an operation that takes a body."""
    return problems(413, 415, *statuses)


RUN_ID = OpenApiParameter(
    "run_id", OpenApiTypes.INT64, OpenApiParameter.PATH, description="The run's id."
)
TASK = OpenApiParameter(
    "task",
    {"type": "string", "pattern": "^[^/]+$"},
    OpenApiParameter.PATH,
    description="The task's id or its name. Digits only are an id.",
)
CALENDAR = OpenApiParameter(
    "calendar",
    {"type": "string", "pattern": "^[^/]+$"},
    OpenApiParameter.PATH,
    description="The calendar's name or id. Digits only are an id.",
)
QUEUE = OpenApiParameter(
    "queue",
    {"type": "string", "pattern": "^[^/]+$", "maxLength": 100},
    OpenApiParameter.PATH,
    description="The queue's name.",
)
TARGET = OpenApiParameter(
    "target",
    {"type": "string", "pattern": "^[^/]+$"},
    OpenApiParameter.PATH,
    description="Host and port, as in shop.example:443.",
)
ALERT_ID = OpenApiParameter(
    "alert_id",
    OpenApiTypes.INT64,
    OpenApiParameter.PATH,
    description="The alert's id.",
)
PROJECT_NAME = OpenApiParameter(
    "project",
    {"type": "string", "pattern": "^[^/]+$"},
    OpenApiParameter.PATH,
    description="The project's name.",
)
PROJECT = OpenApiParameter(
    "project",
    {"type": "string", "minLength": 1, "maxLength": 100},
    description="The project of the name, should several have such a task.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    KEY_HEADER,
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    OpenApiParameter.HEADER,
    description=(
        "The same request with the same key, within 24 hours, is done once and"
        " answered alike."
    ),
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="An ETag: change the task only if it is still that one.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="An ETag: answer 304 if the task is still that one.",
)


def example(name: str, value: Any, *, request: bool = False) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=request, response_only=not request)
