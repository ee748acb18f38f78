"""Every error of the API as a problem (RFC 9457), from one table of statuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from django.core.exceptions import (
    BadRequest,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import ngettext
from django.views import defaults
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import Error, ErrorResponse
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.settings import api_settings

from tasks_app.api.exceptions import (
    DatabaseUnavailable,
    InvalidFields,
    InvalidQuery,
    PayloadTooLarge,
    Refused,
)
from tasks_app.api.request_id import HEADER, request_id
from tasks_app.errors import (
    Conflict,
    DomainError,
    HistoryAway,
    IdempotencyKeyReused,
    InvalidInput,
    TooManyQueuedRuns,
    VersionMismatch,
)

PROBLEM_TYPE = "application/problem+json"

STATUSES: dict[type[DomainError], int] = {
    InvalidInput: status.HTTP_400_BAD_REQUEST,
    Conflict: status.HTTP_409_CONFLICT,
    VersionMismatch: status.HTTP_412_PRECONDITION_FAILED,
    IdempotencyKeyReused: status.HTTP_422_UNPROCESSABLE_ENTITY,
    TooManyQueuedRuns: status.HTTP_429_TOO_MANY_REQUESTS,
    HistoryAway: status.HTTP_503_SERVICE_UNAVAILABLE,
}
"""The status of each domain error, and of those derived from it."""


def status_of(error: DomainError) -> int:
    """The status of the nearest class in the table."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


class ProblemHandler(ExceptionHandler):
    """Turns whatever a view raises into a problem."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        match exc:
            case InvalidInput():
                return InvalidFields(exc.errors)
            case DomainError():
                return Refused(exc, status_of(exc))
            case OperationalError() | InterfaceError():
                return DatabaseUnavailable()
            case RequestDataTooBig():
                return PayloadTooLarge()
            case SuspiciousOperation() | BadRequest():
                return exceptions.ParseError("The request is malformed.")
            case exceptions.AuthenticationFailed(detail=dict() as detail):
                # simplejwt's, which hold a dictionary
                refused = exceptions.AuthenticationFailed(
                    detail["detail"], str(detail["code"])
                )
                refused.auth_header = getattr(exc, "auth_header", None)  # type: ignore[attr-defined]
                return refused
        known: Exception = super().convert_known_exceptions(exc)
        return known

    def run(self) -> Response | None:
        response: Response | None = super().run()
        if response is not None:
            response.content_type = PROBLEM_TYPE
        return response


class ProblemFormatter(ExceptionFormatter):
    """The body of a problem."""

    def get_errors(self) -> list[Error]:
        if isinstance(self.exc, InvalidFields):
            return [
                Error(field.code, field.message, _pointer(field.path))
                for field in self.exc.fields
            ]
        if isinstance(self.exc, InvalidQuery):
            return list(_flat(self.exc.detail, (), ".".join))
        if isinstance(self.exc, exceptions.ValidationError):
            return list(_flat(self.exc.detail, (), _pointer))
        errors: list[Error] = super().get_errors()
        return errors

    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        first, *_ = error_response.errors
        request: HttpRequest = self.context["request"]._request  # type: ignore[union-attr]
        members = dict(getattr(self.exc, "members", {}))
        detail = first.detail
        if isinstance(self.exc, exceptions.ValidationError):
            key = "parameter" if isinstance(self.exc, InvalidQuery) else "pointer"
            members["errors"] = [
                {key: error.attr, "code": error.code, "detail": error.detail}
                for error in error_response.errors
            ]
            detail = _count_text(len(error_response.errors))
        return problem(request, self.exc.status_code, first.code, detail, **members)


def problem(
    request: HttpRequest, status_code: int, code: str, detail: str, **members: Any
) -> dict[str, Any]:
    """A problem's members. `code` is stable, `detail` is for people."""
    kind = "validation-error" if "errors" in members else code
    return {
        "type": f"/problems/{kind}",
        "title": HTTPStatus(status_code).phrase,
        "status": status_code,
        "code": code,
        "detail": detail,
        "instance": request.path,
        "request_id": request_id(request),
        **members,
    }


def _count_text(count: int) -> str:
    return ngettext(
        "%(count)d field is invalid.", "%(count)d fields are invalid.", count
    ) % {"count": count}


def _pointer(path: Sequence[str]) -> str:
    """A JSON Pointer (RFC 6901)."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def _flat(detail: Any, path: tuple[str, ...], name: Any) -> Iterator[Error]:
    """The errors of nested serializers, one by one."""
    if isinstance(detail, dict):
        for key, inner in detail.items():
            is_whole = key == api_settings.NON_FIELD_ERRORS_KEY
            yield from _flat(inner, path if is_whole else (*path, str(key)), name)
    elif isinstance(detail, list):
        for index, item in enumerate(detail):
            is_text = isinstance(item, exceptions.ErrorDetail)
            yield from _flat(item, path if is_text else (*path, str(index)), name)
    else:
        yield Error(detail.code, str(detail), name(path))


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def _problem_response(
    request: HttpRequest, status_code: int, code: str, detail: str
) -> HttpResponse:
    response = JsonResponse(
        problem(request, status_code, code, detail),
        status=status_code,
        content_type=PROBLEM_TYPE,
    )
    response[HEADER] = request_id(request)
    response["Cache-Control"] = "no-store"
    return response


# What never reaches a view of the API: Django's handlers, in the API's words.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not is_api(request):
        return defaults.bad_request(request, exception)
    return _problem_response(request, 400, "bad_request", "The request is malformed.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not is_api(request):
        return defaults.page_not_found(request, exception)
    return _problem_response(request, 404, "not_found", "There is nothing here.")


def server_error(request: HttpRequest) -> HttpResponse:
    if not is_api(request):
        return defaults.server_error(request)
    return _problem_response(
        request, 500, "error", "Something went wrong; the log has this request_id."
    )
