"""A run's output: as JSON, as plain text, and live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.actors import user_of
from tasks_app.api.fields import QuerySerializer
from tasks_app.api.v1.log_stream import LogStream, has_room
from tasks_app.api.v1.logs import (
    MAX_SEQ,
    chunks_after,
    has_ended,
    pages_of_text,
    run_state,
)
from tasks_app.api.v1.lookups import find_run
from tasks_app.api.v1.run_serializers import LogsOut
from tasks_app.api.views import ApiView
from tasks_app.api.waiting import MAX_WAIT_SECONDS, poll
from tasks_app.models import TaskRun

MAX_CHUNKS = 1000
MAX_ATTEMPT = 2**31 - 1


def _after(**more: Any) -> serializers.IntegerField:
    return serializers.IntegerField(
        min_value=0,
        max_value=MAX_SEQ,
        help_text="The `seq` of the last chunk that is known already.",
        **more,
    )


class AttemptQuery(QuerySerializer):
    attempt = serializers.IntegerField(
        min_value=1,
        max_value=MAX_ATTEMPT,
        required=False,
        help_text="Only of this attempt.",
    )


class LogsQuery(AttemptQuery):
    after = _after(default=0)
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_CHUNKS, default=MAX_CHUNKS
    )
    wait = serializers.IntegerField(
        min_value=0,
        max_value=MAX_WAIT_SECONDS,
        default=0,
        help_text="Wait up to so many seconds for more output or the run's end.",
    )


class StreamQuery(QuerySerializer):
    after = _after(required=False)


class RunLogs(ApiView):
    actions = {"get": "run.read"}
    queries = {"get": LogsQuery}

    @extend_schema(
        operation_id="runs_logs",
        summary="Read a run's output in chunks",
        parameters=[docs.RUN_ID, LogsQuery],
        responses={200: LogsOut, **docs.problems(404)},
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = find_run(run_id, TaskRun.objects.only("pk"))
        after, limit = self.query["after"], self.query["limit"]
        attempt = self.query.get("attempt")

        def read() -> dict[str, Any]:
            # The state first: output that comes with the end is then not missed.
            ended = has_ended(run_state(run.pk))
            chunks = chunks_after(run.pk, after, limit, attempt)
            return {
                "results": chunks,
                "next_after": chunks[-1].seq if chunks else after,
                "is_complete": ended and len(chunks) < limit,
            }

        found = poll(
            read,
            lambda answer: bool(answer["results"]) or answer["is_complete"],
            self.query["wait"],
        )
        return Response(LogsOut(found).data)


class RunLogsText(ApiView):
    actions = {"get": "run.read"}
    queries = {"get": AttemptQuery}

    @extend_schema(
        operation_id="runs_logs_text",
        summary="Read a run's output as plain text",
        parameters=[docs.RUN_ID, AttemptQuery],
        responses={
            (200, "text/plain"): OpenApiResponse(OpenApiTypes.STR),
            **docs.problems(404),
        },
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        run = find_run(run_id, TaskRun.objects.only("pk"))
        pages = pages_of_text(run.pk, self.query.get("attempt"))
        return StreamingHttpResponse(
            _awaited(pages) if is_async(request) else pages,
            content_type="text/plain; charset=utf-8",
            headers={
                "X-Content-Type-Options": "nosniff",
                "Content-Disposition": f'inline; filename="run-{run.pk}.log"',
            },
        )


async def _awaited(pages: Iterator[str]) -> AsyncIterator[str]:
    """Django would read a plain iterator to its end before it sends anything."""
    next_page = sync_to_async(lambda: next(pages, None))
    while (page := await next_page()) is not None:
        yield page


def is_async(request: Request) -> bool:
    """Whether the request has come by ASGI."""
    return hasattr(request._request, "scope")


class TooManyStreams(APIException):
    status_code = 503
    default_code = "too_many_streams"
    default_detail = "Too many logs are being followed here; poll /logs instead."
    wait = 10


class RunLogsStream(ApiView):
    """Authenticates like every view, then hands over to a generator that lives on
    the event loop: a stream occupies no thread while nothing happens."""

    actions = {"get": "run.read"}
    queries = {"get": StreamQuery}

    @extend_schema(
        operation_id="runs_logs_stream",
        summary="Follow a run's output",
        description=(
            "Server-sent events. `log`: a list of chunks, as in /logs, whose `seq`"
            " is the event's id. `state`: the run's status and attempt, at first and"
            " whenever they change. `end`: the final status; the stream then closes."
            " A comment each 15 s keeps the connection."
        ),
        parameters=[
            docs.RUN_ID,
            StreamQuery,
            OpenApiParameter(
                "Last-Event-ID",
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                description="As browsers send it; goes before `after`.",
            ),
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(OpenApiTypes.STR),
            **docs.problems(404),
        },
    )
    def get(self, request: Request, run_id: str) -> HttpResponseBase:
        run = find_run(run_id, TaskRun.objects.only("pk"))
        if not has_room():
            raise TooManyStreams
        stream = LogStream(run.pk, self._after(request), user_of(request).pk)
        return StreamingHttpResponse(
            stream.async_events() if is_async(request) else stream.events(),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-cache, no-store", "X-Accel-Buffering": "no"},
        )

    def _after(self, request: Request) -> int:
        last = request.headers.get("Last-Event-ID", "")
        if last.isascii() and last.isdecimal() and len(last) < 17:
            return min(int(last), MAX_SEQ)
        return int(self.query.get("after", 0))
