"""Schedules looked at before they are used: previews and coming fires."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone as clock
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.exceptions import InvalidFields
from tasks_app.api.fields import (
    Moment,
    QuerySerializer,
    StrictSerializer,
    Text,
    Timezone,
    Whole,
)
from tasks_app.api.v1.lookups import find_task
from tasks_app.api.v1.task_serializers import ScheduleWarningOut
from tasks_app.api.views import ApiView
from tasks_app.errors import FieldError, InvalidInput
from tasks_app.rules.schedules import Schedule, describe, next_fires, warnings
from tasks_app.services.schedules import ScheduleInput, schedule_parse

MAX_FIRES = 100
DEFAULT_FIRES = 10


class SchedulePreviewIn(StrictSerializer):
    """Exactly one of `cron`, `interval_seconds` and `at`."""

    cron = Text(max_length=1000, required=False, allow_null=True)
    interval_seconds = Whole(min_value=1, required=False, allow_null=True)
    at = Moment(required=False, allow_null=True)
    timezone = Timezone(max_length=64, default="UTC")
    start_at = Moment(required=False, allow_null=True)
    end_at = Moment(required=False, allow_null=True)
    count = Whole(min_value=1, max_value=MAX_FIRES, default=DEFAULT_FIRES)


class SchedulePreviewOut(serializers.Serializer[Any]):
    description = serializers.CharField(help_text="The schedule in words.")
    fires = serializers.ListField(child=serializers.DateTimeField())
    warnings = ScheduleWarningOut(many=True)


class NextFiresQuery(QuerySerializer):
    count = serializers.IntegerField(
        min_value=1, max_value=MAX_FIRES, default=DEFAULT_FIRES
    )
    # `from` is a word of Python's, hence not a plain attribute.
    tz = Timezone(
        required=False, max_length=64, help_text="Show the times in this time zone."
    )
    project = Text(required=False, max_length=100)

    def get_fields(self) -> dict[str, Any]:
        after = Moment(required=False, help_text="Only fires after this; now if empty.")
        return {**super().get_fields(), "from": after}


class NextFiresOut(serializers.Serializer[Any]):
    description = serializers.CharField(allow_null=True)
    timezone = serializers.CharField(help_text="The schedule's own time zone.")
    fires = serializers.ListField(child=serializers.DateTimeField())


class SchedulePreview(ApiView):
    actions = {"post": "task.read"}

    @extend_schema(
        operation_id="schedules_preview",
        summary="See when a schedule would fire",
        request=SchedulePreviewIn,
        responses={200: SchedulePreviewOut, **docs.body_problems()},
        examples=[
            docs.example(
                "Twice a day",
                {"cron": "0 3,15 * * *", "timezone": "Europe/Kyiv", "count": 4},
                request=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        serializer = SchedulePreviewIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        given, now = serializer.validated_data, clock.now()
        rule = _parse(given, now)
        shown = {
            "description": describe(rule),
            "fires": next_fires(rule, now, given["count"]),
            "warnings": warnings(rule, now),
        }
        return Response(SchedulePreviewOut(shown).data)


def _parse(given: dict[str, Any], now: datetime) -> Schedule:
    """The rule; its errors point into a body that is the schedule itself."""
    try:
        return schedule_parse(ScheduleInput.of(given), given["timezone"], now)
    except InvalidInput as error:
        raise InvalidFields(
            [
                FieldError(
                    field.path[1:] if field.path[0] == "schedule" else field.path,
                    field.code,
                    field.message,
                )
                for field in error.errors
            ]
        ) from error


class TaskNextFires(ApiView):
    actions = {"get": "task.read"}
    queries = {"get": NextFiresQuery}

    @extend_schema(
        operation_id="tasks_next_fires",
        summary="See when a task fires next",
        description="By its schedule, whether it is paused or not.",
        parameters=[docs.TASK, NextFiresQuery],
        responses={200: NextFiresOut, **docs.problems(404, 409)},
    )
    def get(self, request: Request, task: str) -> Response:
        found = find_task(task, self.query.get("project"))
        rule = found.schedule_rule()
        after = self.query.get("from") or clock.now()
        fires = next_fires(rule, after, self.query["count"]) if rule else []
        zone = ZoneInfo(self.query.get("tz") or "UTC")
        shown = {
            "description": describe(rule) if rule else None,
            "timezone": found.timezone,
            "fires": [_text(fire, zone) for fire in fires],
        }
        return Response(shown)


def _text(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat().replace("+00:00", "Z")
