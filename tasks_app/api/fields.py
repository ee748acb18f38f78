"""Fields that take a JSON value of their own kind and no other, and say what else
they know."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from tasks_app.api.exceptions import InvalidQuery
from tasks_app.rules.schedules import ScheduleInvalid, parse_timezone

MAX_ID = 2**63 - 1
FIRST_YEAR, LAST_YEAR = 1970, 2200

T = TypeVar("T")


class Text(serializers.CharField):
    """A string; a number is not taken for one."""

    default_error_messages = {"not_a_string": "Not a string."}

    def __init__(self, **kwargs: Any) -> None:
        if not kwargs.get("allow_blank"):
            kwargs.setdefault("min_length", 1)  # for the schema: blank comes first
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("not_a_string")
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """An integer, which to JSON Schema 5.0 is as well; "5" is not taken for one."""

    def to_internal_value(self, data: Any) -> int:
        whole = whole_number(data)
        if whole is None:
            self.fail("invalid")
        return super().to_internal_value(whole)


def whole_number(data: Any) -> int | None:
    """The integer that a JSON value is, if it is one. True is none."""
    if type(data) is float and data.is_integer():
        return int(data)
    return data if type(data) is int else None


class Flag(serializers.BooleanField):
    """true or false; "yes" and 1 are not taken for one."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Moment(serializers.DateTimeField):
    """An RFC 3339 time with its offset from UTC, of a year people plan in."""

    default_error_messages = {
        "naive_datetime": "A time needs its offset from UTC, such as Z or +02:00.",
        "out_of_range": f"A time is in the years {FIRST_YEAR}-{LAST_YEAR}.",
    }

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.utcoffset() is None:
            self.fail("naive_datetime")
        if not FIRST_YEAR <= value.year <= LAST_YEAR:
            self.fail("out_of_range")
        return value.astimezone(UTC)


class Timezone(Text):
    """The name of an IANA time zone."""

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        try:
            return parse_timezone(name).key
        except ScheduleInvalid as error:
            raise ValidationError(error.message, error.code) from error


class QuickSerializer(serializers.Serializer[T]):
    # Copies its declared fields as they are. Django REST framework makes each anew,
    # which takes longer than to show a run with them; nobody changes a part of a field
    # once it is declared. (A docstring would stand in the API's document.)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {name: _copied(each) for name, each in self._declared_fields.items()}


def _copied(field: Any) -> Any:
    # By what has fields below it, those ask for the request and for `partial`.
    is_whole = isinstance(field, serializers.BaseSerializer) or any(
        hasattr(field, below) for below in ("child", "child_relation")
    )
    return copy.deepcopy(field) if is_whole else copy.copy(field)


class StrictSerializer(QuickSerializer[Any]):
    """Refuses fields that it does not know, so that a typing error is not an
    instruction that silently does nothing."""

    def to_internal_value(self, data: Any) -> Any:
        errors: dict[str, Any] = {}
        if isinstance(data, Mapping):
            known = [name for name, field in self.fields.items() if not field.read_only]
            errors = unknown_names(data, known, "unknown_field", "field")
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            if not isinstance(error.detail, dict):
                raise
            raise ValidationError({**error.detail, **errors}) from error
        if errors:
            raise ValidationError(errors)
        return value


class NoFields(StrictSerializer):
    """The body of an operation that takes none."""


def refuse_fields(data: Any) -> None:
    """Raises:
    ValidationError: a body that should be empty has fields.
    """
    NoFields(data=data).is_valid(raise_exception=True)


def unknown_names(
    given: Iterable[str], known: Iterable[str], code: str, kind: str
) -> dict[str, list[ErrorDetail]]:
    """An error for each name that is not known, with the nearest one that is."""
    known = list(known)
    return {
        name: [ErrorDetail(_unknown_text(name, known, kind), code)]
        for name in given
        if name not in known
    }


def _unknown_text(name: str, known: list[str], kind: str) -> str:
    near = difflib.get_close_matches(name[:100], known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(known)}."
    return f"Unknown {kind}. {hint}" if known else f"There is no {kind} here."


class QuerySerializer(QuickSerializer[Any]):
    """The query parameters of an operation that is not a filtered list."""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Any]:
        """The parameters by name.

        Raises:
            InvalidQuery: naming each wrong parameter.
        """
        serializer = cls(data=dict(given))
        try:
            serializer.is_valid(raise_exception=True)
        except ValidationError as error:
            raise InvalidQuery(error.detail) from error
        values: dict[str, Any] = serializer.validated_data
        return values


def check_query_names(given: Mapping[str, str], known: Iterable[str]) -> None:
    """Raises:
    InvalidQuery: a parameter is not known, or holds a NUL character.
    """
    errors: dict[str, Any] = unknown_names(
        given, known, "unknown_parameter", "query parameter"
    )
    for name, value in given.items():
        if "\0" in name or "\0" in value:
            text = "NUL characters are not accepted."
            errors[name] = [ErrorDetail(text, "null_character")]
    if errors:
        raise InvalidQuery(errors)
