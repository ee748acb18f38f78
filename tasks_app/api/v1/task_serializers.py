"""Tasks as they come in and as they go out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.utils import timezone as clock
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.reverse import reverse

from tasks_app.api.fields import (
    MAX_ID,
    Moment,
    StrictSerializer,
    Text,
    Timezone,
    Whole,
    whole_number,
)
from tasks_app.api.v1.lookups import MAX_NAME_LENGTH, id_of
from tasks_app.api.v1.task_input import RETRY_FIELDS, rule_fields
from tasks_app.choices import (
    Backoff,
    Condition,
    Delivery,
    Misfire,
    RunStatus,
    TaskStatus,
    Trigger,
)
from tasks_app.models import Project, Task, TaskRun, TaskVersion
from tasks_app.rules.schedules import (
    Schedule,
    ScheduleWarning,
    describe,
    next_fires,
    warnings,
)

NEXT_FIRES_SHOWN = 3
_DAYS_30, _DAYS_366 = 30 * 86_400, 366 * 86_400
_RECORDED_RETRY = frozenset(RETRY_FIELDS.values())


# --- in ----------------------------------------------------------------------------


class ScheduleIn(StrictSerializer):
    """Exactly one of `cron`, `interval_seconds` and `at`."""

    cron = Text(
        max_length=1000,
        required=False,
        allow_null=True,
        help_text="Five fields, as in crontab(5).",
    )
    interval_seconds = Whole(
        min_value=1, max_value=_DAYS_366, required=False, allow_null=True
    )
    at = Moment(required=False, allow_null=True, help_text="Once, at this time.")
    timezone = Timezone(
        max_length=64, required=False, help_text="IANA name; UTC by default."
    )
    start_at = Moment(required=False, allow_null=True)
    end_at = Moment(required=False, allow_null=True)
    misfire = serializers.ChoiceField(
        Misfire.choices,
        required=False,
        help_text="Which of the fires missed while no beat lived are run.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("at") is not None:
            errors = {
                name: [ErrorDetail("A one-off schedule has none.", "not_with_at")]
                for name in ("start_at", "end_at")
                if attrs.get(name) is not None
            }
            if errors:
                raise ValidationError(errors)
        return attrs


class RetryIn(StrictSerializer):
    """How often and when a failed attempt is repeated."""

    max_attempts = Whole(min_value=1, max_value=20, required=False)
    backoff = serializers.ChoiceField(Backoff.choices, required=False)
    initial_seconds = Whole(min_value=0, max_value=86_400, required=False)
    max_seconds = Whole(min_value=0, max_value=7 * 86_400, required=False)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "integer", "format": "int64", "minimum": 1},
            {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH},
        ],
        "description": "A task's id, or its name in the same project.",
    }
)
class TaskReference(serializers.Field[Any, Any, Any, Any]):
    default_error_messages = {"invalid": "A task's id or name."}

    def to_internal_value(self, data: Any) -> int | str:
        number = whole_number(data)
        if number is not None and 0 < number <= MAX_ID:
            return number
        if isinstance(data, str) and 0 < len(data) <= MAX_NAME_LENGTH:
            return id_of(data) or data
        return self.fail("invalid")

    def to_representation(self, value: Any) -> Any:
        return value


class DependencyIn(StrictSerializer):
    task = TaskReference()
    condition = serializers.ChoiceField(
        Condition.choices,
        required=False,
        help_text="On which ending of that task's run this one runs.",
    )


class ProjectName(serializers.SlugRelatedField[Project]):
    def to_internal_value(self, data: Any) -> Project:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class TaskIn(StrictSerializer):
    """A task as it is created or replaced; PATCH takes any part of it."""

    name = Text(max_length=MAX_NAME_LENGTH, help_text="Unique in its project.")
    project = ProjectName(
        slug_field="name",
        queryset=Project.objects.all(),
        required=False,
        help_text="`default` unless given.",
    )
    description = Text(max_length=10_000, required=False, allow_blank=True)
    executor = Text(max_length=50, help_text="shell, http, python, or an added one.")
    command = Text(required=False, allow_blank=True, trim_whitespace=False)
    payload = serializers.DictField(
        required=False, help_text="The executor's other parameters."
    )
    schedule = ScheduleIn(required=False, allow_null=True)
    queue = Text(max_length=100, required=False)
    timeout_seconds = Whole(min_value=1, max_value=_DAYS_30, required=False)
    start_deadline_seconds = Whole(
        min_value=1, max_value=_DAYS_366, required=False, allow_null=True
    )
    delivery = serializers.ChoiceField(Delivery.choices, required=False)
    retry = RetryIn(required=False)
    depends_on: serializers.ListSerializer[Any] = serializers.ListSerializer(
        child=DependencyIn(), required=False, max_length=100
    )


# --- out ---------------------------------------------------------------------------


class ScheduleWarningOut(serializers.Serializer[ScheduleWarning]):
    code = serializers.CharField()
    message = serializers.CharField()


@dataclass(frozen=True, slots=True)
class ScheduleShown:
    """A task's schedule as the API shows it."""

    cron: str | None
    interval_seconds: int | None
    at: datetime | None
    timezone: str
    start_at: datetime | None
    end_at: datetime | None
    misfire: str
    description: str
    next_fires: list[datetime]
    warnings: list[ScheduleWarning]


class ScheduleOut(serializers.Serializer[ScheduleShown]):
    """One of `cron`, `interval_seconds` and `at` is set, the others are null."""

    cron = serializers.CharField(allow_null=True)
    interval_seconds = serializers.IntegerField(allow_null=True)
    at = serializers.DateTimeField(allow_null=True)
    timezone = serializers.CharField()
    start_at = serializers.DateTimeField(allow_null=True)
    end_at = serializers.DateTimeField(allow_null=True)
    misfire = serializers.ChoiceField(Misfire.choices)
    description = serializers.CharField(help_text="The schedule in words.")
    next_fires = serializers.ListField(
        child=serializers.DateTimeField(),
        help_text=f"The next {NEXT_FIRES_SHOWN}; none while the task is paused.",
    )
    warnings = ScheduleWarningOut(many=True)

    def get_attribute(self, instance: Any) -> ScheduleShown | None:
        return schedule_shown(instance)


def schedule_shown(task: Task) -> ScheduleShown | None:
    rule = task.schedule_rule()
    if rule is None:
        return None
    now = clock.now()
    is_active = task.status == TaskStatus.ACTIVE
    fields: dict[str, Any] = {
        "cron": None,
        "interval_seconds": None,
        "at": None,
        "start_at": None,
        "end_at": None,
        **rule_fields(rule),
    }
    return ScheduleShown(
        **fields,
        timezone=task.timezone,
        misfire=task.misfire,
        description=describe(rule),
        next_fires=next_fires(rule, now, NEXT_FIRES_SHOWN) if is_active else [],
        warnings=list(_warnings(rule, now.replace(minute=0, second=0, microsecond=0))),
    )


@lru_cache(maxsize=4096)
def _warnings(rule: Schedule, hour: datetime) -> tuple[ScheduleWarning, ...]:
    """Looks a year ahead for changes of the clocks, so lists remember it."""
    return tuple(warnings(rule, hour))


class RetryOut(serializers.Serializer[Task]):
    max_attempts = serializers.IntegerField()
    backoff = serializers.ChoiceField(Backoff.choices, source="retry_backoff")
    initial_seconds = serializers.IntegerField(source="retry_initial_seconds")
    max_seconds = serializers.IntegerField(source="retry_max_seconds")


class TaskRef(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()


class DependencyOut(serializers.Serializer[Any]):
    task = TaskRef(source="parent")
    condition = serializers.ChoiceField(Condition.choices)


class LastRunOut(serializers.Serializer[TaskRun]):
    id = serializers.IntegerField()
    status = serializers.ChoiceField(RunStatus.choices)
    trigger = serializers.ChoiceField(Trigger.choices)
    scheduled_for = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)


class TaskOut(serializers.Serializer[Task]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    project = serializers.CharField(source="project.name")
    description = serializers.CharField()
    status = serializers.ChoiceField(
        [choice for choice in TaskStatus.choices if choice[0] != TaskStatus.DELETED]
    )
    executor = serializers.CharField()
    command = serializers.CharField()
    payload = serializers.DictField()
    schedule = ScheduleOut(allow_null=True)
    queue = serializers.CharField()
    timeout_seconds = serializers.IntegerField()
    start_deadline_seconds = serializers.IntegerField(allow_null=True)
    delivery = serializers.ChoiceField(Delivery.choices)
    retry = RetryOut(source="*")
    depends_on = DependencyOut(source="parent_edges.all", many=True)
    version = serializers.IntegerField()
    next_fire_at = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    last_run = LastRunOut(allow_null=True)
    url = serializers.SerializerMethodField()

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_next_fire_at(self, task: Task) -> Any:
        # A paused task keeps its cursor, and does not fire.
        at = task.next_fire_at if task.status == TaskStatus.ACTIVE else None
        return serializers.DateTimeField().to_representation(at) if at else None

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, task: Task) -> str:
        return reverse("task", [task.pk], request=self.context["request"])


# --- versions ------------------------------------------------------------------------


class TaskVersionOut(serializers.Serializer[TaskVersion]):
    number = serializers.IntegerField()
    definition = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField(
        source="created_by.username", default=None, allow_null=True
    )

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_definition(self, version: TaskVersion) -> dict[str, Any]:
        return definition_shown(version.definition)


def definition_shown(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A definition as it was recorded, in the shape of a task."""
    rest = dict(flat)
    timezone, misfire = rest.pop("timezone"), rest.pop("misfire")
    schedule = rest.pop("schedule")
    return {
        **{key: value for key, value in rest.items() if key not in _RECORDED_RETRY},
        "schedule": schedule and {**schedule, "timezone": timezone, "misfire": misfire},
        "retry": {shown: rest[name] for shown, name in RETRY_FIELDS.items()},
    }
