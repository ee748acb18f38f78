"""What views raise besides DRF's own exceptions.

Apart from `errors`, for the parsers need them, and DRF's views need the parsers.
"""

from __future__ import annotations

from collections.abc import Sequence

from rest_framework import exceptions, status

from tasks_app.errors import DomainError, FieldError

RETRY_AFTER_SECONDS = 5


class InvalidQuery(exceptions.ValidationError):
    """Query parameters are wrong: the problem names parameters, not pointers."""


class InvalidFields(exceptions.ValidationError):
    """Fields that a service has refused."""

    def __init__(self, fields: Sequence[FieldError]) -> None:
        super().__init__(code="invalid")
        self.fields = fields


class Refused(exceptions.APIException):
    """A domain error other than wrong fields."""

    def __init__(self, error: DomainError, status_code: int) -> None:
        super().__init__(str(error), error.code)
        self.status_code = status_code
        if status_code == status.HTTP_503_SERVICE_UNAVAILABLE:
            self.wait = RETRY_AFTER_SECONDS


class PayloadTooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "payload_too_large"
    default_detail = "The request body is larger than 1 MiB."


class DatabaseUnavailable(exceptions.APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "database_unavailable"
    default_detail = "The database does not answer; try again in a few seconds."
    wait = RETRY_AFTER_SECONDS


class AmbiguousName(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "ambiguous_name"
    default_detail = (
        "Several projects have a task of this name: add ?project=, or use its id."
    )
