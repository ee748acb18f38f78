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
    Flag,
    Moment,
    QuickSerializer,
    StrictSerializer,
    Text,
    Timezone,
    Whole,
    whole_number,
)
from tasks_app.api.v1.calendar_serializers import CalendarNames, CalendarRefs
from tasks_app.api.v1.lookups import MAX_NAME_LENGTH, id_of
from tasks_app.api.v1.task_input import RETRY_FIELDS, rule_fields
from tasks_app.choices import (
    Backoff,
    Delivery,
    Misfire,
    Overlap,
    Placement,
    RunStatus,
    TaskStatus,
    Trigger,
    TriggerRule,
)
from tasks_app.ledger import PauseOutlook
from tasks_app.models import Project, Task, TaskRun, TaskVersion
from tasks_app.models.project import MAX_RETENTION_DAYS
from tasks_app.rules.match import MAX_LENGTH as MAX_MATCH_LENGTH
from tasks_app.rules.rates import MAX_RUNS as MAX_RATE_RUNS
from tasks_app.rules.schedules import (
    Schedule,
    ScheduleWarning,
    describe,
    next_fires,
    warnings,
)

NEXT_FIRES_SHOWN = 3
MAX_RUNS_AT_A_TIME = 100_000
_DAY, _DAYS_30, _DAYS_366 = 86_400, 30 * 86_400, 366 * 86_400


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
        help_text="Which fires run that a pause, or the want of a beat, missed.",
    )
    jitter_seconds = Whole(
        min_value=0,
        max_value=_DAY,
        required=False,
        help_text="Each fire starts up to so much later, drawn once for the fire.",
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


class RateLimitIn(StrictSerializer):
    """At most `runs` starts in any `per_seconds`. Given as a whole, by PATCH too."""

    runs = Whole(min_value=1, max_value=MAX_RATE_RUNS)
    per_seconds = Whole(min_value=1, max_value=_DAY)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in ("runs", "per_seconds") if name not in attrs]
        if missing:  # which a PATCH lets pass
            text = "Give runs and per_seconds: a rate limit is replaced as a whole."
            raise ValidationError(
                {name: [ErrorDetail(text, "required")] for name in missing}
            )
        return attrs


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
    trigger_rule = serializers.ChoiceField(
        TriggerRule.choices,
        required=False,
        help_text="Which endings of the tasks in depends_on start this one.",
    )
    priority = Whole(
        min_value=0,
        max_value=9,
        required=False,
        help_text="Of the runs that wait, the highest start first; 5 by default.",
    )
    overlap = serializers.ChoiceField(
        Overlap.choices,
        required=False,
        help_text=(
            "What happens to a run when max_concurrency are running. `allow` has no"
            " limit. `queue` if only max_concurrency is given."
        ),
    )
    max_concurrency = Whole(
        min_value=1,
        max_value=MAX_RUNS_AT_A_TIME,
        required=False,
        allow_null=True,
        help_text="Runs at a time; 1 where overlap is not allow.",
    )
    max_queued = Whole(
        min_value=1,
        max_value=10 * MAX_RUNS_AT_A_TIME,
        required=False,
        allow_null=True,
        help_text="Runs that may wait; MAX_QUEUED_RUNS by default.",
    )
    rate_limit = RateLimitIn(required=False, allow_null=True)
    calendars = CalendarNames(required=False, help_text="Blackouts, by name.")
    placement = serializers.ChoiceField(
        Placement.choices,
        required=False,
        help_text="Which of the workers that serve the queue runs it.",
    )
    worker_name = Text(
        max_length=200,
        required=False,
        allow_blank=True,
        help_text="The worker, where placement is worker.",
    )
    match = Text(
        max_length=MAX_MATCH_LENGTH,
        required=False,
        allow_blank=True,
        help_text="Tags that the worker must have: gpu and not (eu or spot).",
    )
    pause_after_failures = Whole(
        min_value=1,
        max_value=1000,
        required=False,
        allow_null=True,
        help_text="Pause it after so many failed runs in a row.",
    )
    retention_days = Whole(
        min_value=0,
        max_value=MAX_RETENTION_DAYS,
        required=False,
        allow_null=True,
        help_text="Days that its runs are kept; 0: for ever. Its project's by default.",
    )


class ResumeIn(StrictSerializer):
    dry_run = Flag(
        default=False, help_text="Only answer what would become of the missed fires."
    )


# --- out ---------------------------------------------------------------------------


class ScheduleWarningOut(QuickSerializer[ScheduleWarning]):
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
    jitter_seconds: int
    description: str
    next_fires: list[datetime]
    warnings: list[ScheduleWarning]


class ScheduleOut(QuickSerializer[ScheduleShown]):
    """One of `cron`, `interval_seconds` and `at` is set, the others are null."""

    cron = serializers.CharField(allow_null=True)
    interval_seconds = serializers.IntegerField(allow_null=True)
    at = serializers.DateTimeField(allow_null=True)
    timezone = serializers.CharField()
    start_at = serializers.DateTimeField(allow_null=True)
    end_at = serializers.DateTimeField(allow_null=True)
    misfire = serializers.ChoiceField(Misfire.choices)
    jitter_seconds = serializers.IntegerField()
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
        jitter_seconds=task.jitter_seconds,
        description=describe(rule),
        next_fires=next_fires(rule, now, NEXT_FIRES_SHOWN) if is_active else [],
        warnings=list(_warnings(rule, now.replace(minute=0, second=0, microsecond=0))),
    )


@lru_cache(maxsize=4096)
def _warnings(rule: Schedule, hour: datetime) -> tuple[ScheduleWarning, ...]:
    """Looks a year ahead for changes of the clocks, so lists remember it."""
    return tuple(warnings(rule, hour))


class RetryOut(QuickSerializer[Task]):
    max_attempts = serializers.IntegerField()
    backoff = serializers.ChoiceField(Backoff.choices, source="retry_backoff")
    initial_seconds = serializers.IntegerField(source="retry_initial_seconds")
    max_seconds = serializers.IntegerField(source="retry_max_seconds")


class RateLimitOut(QuickSerializer[Any]):
    """Of a task or a project."""

    runs = serializers.IntegerField(source="rate_limit_runs")
    per_seconds = serializers.IntegerField(source="rate_limit_seconds")

    def get_attribute(self, instance: Any) -> Any:
        return None if instance.rate_limit_runs is None else instance


class TaskRef(QuickSerializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()


class DependencyOut(QuickSerializer[Any]):
    task = TaskRef(source="parent")


class LastRunOut(QuickSerializer[TaskRun]):
    id = serializers.IntegerField()
    status = serializers.ChoiceField(RunStatus.choices)
    trigger = serializers.ChoiceField(Trigger.choices)
    scheduled_for = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)


class TaskOut(QuickSerializer[Task]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    project = serializers.CharField(source="project.name")
    description = serializers.CharField()
    status = serializers.ChoiceField(
        [choice for choice in TaskStatus.choices if choice[0] != TaskStatus.DELETED]
    )
    status_reason = serializers.CharField(
        help_text="Why it was paused, if not by a person."
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
    trigger_rule = serializers.ChoiceField(TriggerRule.choices)
    priority = serializers.IntegerField()
    overlap = serializers.ChoiceField(Overlap.choices)
    max_concurrency = serializers.IntegerField(allow_null=True)
    max_queued = serializers.IntegerField(allow_null=True)
    rate_limit = RateLimitOut(allow_null=True)
    calendars = CalendarRefs()
    placement = serializers.ChoiceField(Placement.choices)
    worker_name = serializers.CharField()
    match = serializers.CharField()
    pause_after_failures = serializers.IntegerField(allow_null=True)
    retention_days = serializers.IntegerField(allow_null=True)
    target = serializers.CharField(help_text="The host and port that it calls.")
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


class PauseOutlookOut(QuickSerializer[PauseOutlook]):
    """What becomes of the fires of a pause."""

    missed = serializers.IntegerField(help_text="Fires that came due.")
    will_run = serializers.IntegerField()
    will_skip = serializers.IntegerField(help_text="Kept as skipped runs.")
    next_fire_at = serializers.DateTimeField(allow_null=True)


class TaskResumedOut(TaskOut):
    """A task, and what became of the fires of its pause."""

    missed = serializers.IntegerField(help_text="Fires that came due.")
    will_run = serializers.IntegerField()
    will_skip = serializers.IntegerField(help_text="Kept as skipped runs.")


# --- versions ------------------------------------------------------------------------


class TaskVersionOut(QuickSerializer[TaskVersion]):
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
    """A definition as it was recorded, in the shape of a task. Older ones lack what
    tasks did not have then."""
    rest = dict(flat)
    policies = {
        name: rest.pop(name)
        for name in ("timezone", "misfire", "jitter_seconds")
        if name in rest
    }
    schedule = rest.pop("schedule")
    retry = {shown: rest.pop(name) for shown, name in RETRY_FIELDS.items()}
    runs = rest.pop("rate_limit_runs", None)
    seconds = rest.pop("rate_limit_seconds", None)
    return {
        **rest,
        "schedule": schedule and {**schedule, **policies},
        "retry": retry,
        "rate_limit": runs and {"runs": runs, "per_seconds": seconds},
    }
