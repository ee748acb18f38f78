"""Blackout calendars as they come in and as they go out."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from tasks_app.api.docs import example
from tasks_app.api.fields import StrictSerializer, Text, Timezone
from tasks_app.choices import BlackoutAction
from tasks_app.models import Calendar
from tasks_app.rules.blackout import MAX_WINDOWS, BlackoutSpan

MAX_CALENDARS = 20
MAX_NAME_LENGTH = 100

WINDOWS_SCHEMA = {
    "type": "array",
    "maxItems": MAX_WINDOWS,
    "items": {
        "oneOf": [
            {
                "type": "object",
                "title": "A span",
                "additionalProperties": False,
                "required": ["from", "until"],
                "properties": {
                    "from": {"type": "string", "examples": ["2026-12-24T00:00"]},
                    "until": {"type": "string", "examples": ["2026-12-27T00:00"]},
                },
            },
            {
                "type": "object",
                "title": "A span after each fire of a cron expression",
                "additionalProperties": False,
                "required": ["cron", "duration_seconds"],
                "properties": {
                    "cron": {"type": "string", "examples": ["0 22 * * 1-5"]},
                    "duration_seconds": {"type": "integer", "minimum": 1},
                },
            },
        ]
    },
    "description": (
        "Times without an offset are of the calendar's time zone. A window ends before"
        " its `until`: a fire at that moment runs."
    ),
}


class CalendarNames(serializers.ListField):
    """The calendars of a list of names."""

    def __init__(self, **kwargs: Any) -> None:
        name = Text(max_length=MAX_NAME_LENGTH)
        super().__init__(child=name, max_length=MAX_CALENDARS, **kwargs)

    def to_internal_value(self, data: Any) -> list[Calendar]:
        names: list[str] = super().to_internal_value(data)
        found = {row.name: row for row in Calendar.objects.filter(name__in=names)}
        unknown = {
            str(index): [ErrorDetail("There is no such calendar.", "unknown_calendar")]
            for index, name in enumerate(names)
            if name not in found
        }
        if unknown:
            raise ValidationError(unknown)
        return list(found.values())


class CalendarRefs(serializers.ListField):
    """The names of a task's or a project's calendars."""

    child = serializers.CharField()

    def to_representation(self, data: Any) -> list[str]:
        return [calendar.name for calendar in data.all()]


@extend_schema_field(WINDOWS_SCHEMA)
class Windows(serializers.JSONField):
    """Checked by the service, which knows the time zone."""


class CalendarIn(StrictSerializer):
    """A calendar as it is created or replaced; PATCH takes any part of it."""

    name = Text(max_length=MAX_NAME_LENGTH, help_text="Letters, digits, - and _.")
    description = Text(max_length=10_000, required=False, allow_blank=True)
    timezone = Timezone(
        max_length=64, required=False, help_text="IANA name; UTC by default."
    )
    action = serializers.ChoiceField(
        BlackoutAction.choices,
        required=False,
        help_text="What becomes of a fire in a window; skip by default.",
    )
    windows = Windows()


class CalendarOut(serializers.Serializer[Calendar]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    timezone = serializers.CharField()
    action = serializers.ChoiceField(BlackoutAction.choices)
    windows = Windows()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class BlackoutSpanOut(serializers.Serializer[BlackoutSpan]):
    """From `start_at` until just before `end_at`: null if no end is in sight."""

    start_at = serializers.DateTimeField(source="start")
    end_at = serializers.DateTimeField(source="end", allow_null=True)


CALENDAR_EXAMPLES = [
    example(
        "Nights and Christmas",
        {
            "name": "quiet-hours",
            "timezone": "Europe/Berlin",
            "action": "postpone",
            "windows": [
                {"cron": "0 22 * * *", "duration_seconds": 28_800},
                {"from": "2026-12-24T00:00", "until": "2026-12-27T00:00"},
            ],
        },
        request=True,
    )
]
