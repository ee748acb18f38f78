"""Schedules as people write them, and as django-celery-beat's rows hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    PeriodicTask,
)
from django_celery_beat.models import (
    IntervalSchedule as IntervalRow,
)

from tasks_app.choices import TaskStatus
from tasks_app.errors import FieldError, InvalidInput
from tasks_app.models import Task
from tasks_app.rules.schedules import (
    CronSchedule,
    IntervalSchedule,
    OneOffSchedule,
    Schedule,
    ScheduleInvalid,
    parse_cron,
    parse_timezone,
)

DOORBELL_TASK = "gnomon.doorbell"
"""The Celery task that the rows name. Gnomon's beat plans them itself; for a stock
beat it only wakes a worker."""


@dataclass(frozen=True, slots=True)
class ScheduleInput:
    """A schedule as it comes in: exactly one of `cron`, `interval_seconds`, `at`."""

    cron: str | None = None
    interval_seconds: int | None = None
    at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ScheduleInput:
        names = ("cron", "interval_seconds", "at", "start_at", "end_at")
        return cls(**{name: values.get(name) for name in names})


def schedule_parse(given: ScheduleInput, timezone: str, now: datetime) -> Schedule:
    """The rule that `given` states.

    An interval without `start_at` is anchored at `now`, cut to the second: its first
    fire is one interval later.

    Raises:
        InvalidInput: naming the field under `schedule` (or `timezone`).
    """
    kinds = [
        name
        for name in ("cron", "interval_seconds", "at")
        if getattr(given, name) is not None
    ]
    if len(kinds) != 1:
        raise InvalidInput.of(
            "schedule",
            "one_kind_of_schedule",
            "give exactly one of cron, interval_seconds and at",
        )
    try:
        zone = parse_timezone(timezone).key
        schedule = _rule(given, zone, now)
    except ScheduleInvalid as error:
        path = _path(error.field, kinds[0])
        raise InvalidInput([FieldError(path, error.code, error.message)]) from error
    return schedule


def _rule(given: ScheduleInput, zone: str, now: datetime) -> Schedule:
    if given.cron is not None:
        return CronSchedule(parse_cron(given.cron), zone, given.start_at, given.end_at)
    if given.interval_seconds is not None:
        anchor = given.start_at or now.replace(microsecond=0)
        return IntervalSchedule(given.interval_seconds, anchor, given.end_at)
    assert given.at is not None  # noqa: S101 - the caller has checked the kind
    return OneOffSchedule(given.at)


def _path(field: str, kind: str) -> tuple[str, ...]:
    if field == "timezone":
        return ("timezone",)
    if field in {"start_at", "end_at"}:
        return ("schedule", field)
    return ("schedule", kind)


def schedule_values(schedule: Schedule | None) -> dict[str, Any] | None:
    """A rule as the API shows it and a TaskVersion records it."""
    match schedule:
        case CronSchedule():
            return {
                "cron": schedule.expression,
                "start_at": _iso(schedule.start_at),
                "end_at": _iso(schedule.end_at),
            }
        case IntervalSchedule():
            return {
                "interval_seconds": schedule.seconds,
                "start_at": _iso(schedule.anchor),
                "end_at": _iso(schedule.end_at),
            }
        case OneOffSchedule():
            return {"at": _iso(schedule.at)}
    return None


def _iso(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None


def schedule_write(task: Task, schedule: Schedule | None) -> None:
    """Make the task's django-celery-beat row say `schedule`; in the caller's
    transaction. The caller saves the task."""
    previous = task.schedule
    if schedule is None:
        task.schedule = None
    else:
        row = previous or PeriodicTask(task=DOORBELL_TASK, kwargs="{}")
        before = _columns(row)
        row.name = f"gnomon task {task.pk}"
        row.description = task.name
        row.queue = task.queue
        row.enabled = task.status == TaskStatus.ACTIVE
        _point(row, schedule, task.timezone)
        if _columns(row) != before:
            _save(row)
        task.schedule = row
    if previous and schedule is None:
        previous.no_changes = True
        previous.delete()


def schedule_enable(task: Task) -> None:
    """Have the task's row, if it has one, say whether the task is active; in the
    caller's transaction."""
    row = task.schedule
    if row and row.enabled != (task.status == TaskStatus.ACTIVE):
        row.enabled = task.status == TaskStatus.ACTIVE
        _save(row)


def _save(row: PeriodicTask) -> None:
    # django-celery-beat would note the time of the change in its one PeriodicTasks
    # row: edits would wait for each other there, and each would have beat read the
    # stock entries anew, to which these rows do not belong.
    row.no_changes = True
    row.save()


def _columns(row: PeriodicTask) -> dict[str, Any]:
    fields = row._meta.concrete_fields
    return {field.attname: getattr(row, field.attname) for field in fields}


def _point(row: PeriodicTask, schedule: Schedule, timezone: str) -> None:
    row.crontab = row.interval = row.clocked = None
    row.start_time = row.expires = None
    row.one_off = False
    match schedule:
        case CronSchedule():
            row.crontab = _crontab_row(schedule.expression, timezone)
            row.start_time, row.expires = schedule.start_at, schedule.end_at
        case IntervalSchedule():
            row.interval = _interval_row(schedule.seconds)
            row.start_time, row.expires = schedule.anchor, schedule.end_at
        case OneOffSchedule():
            row.clocked = _first_or_create(ClockedSchedule, clocked_time=schedule.at)
            row.one_off = True


def _crontab_row(expression: str, timezone: str) -> CrontabSchedule:
    minute, hour, day_of_month, month_of_year, day_of_week = expression.split(" ")
    return _first_or_create(
        CrontabSchedule,
        minute=minute,
        hour=hour,
        day_of_month=day_of_month,
        month_of_year=month_of_year,
        day_of_week=day_of_week,
        timezone=timezone,
    )


def _interval_row(seconds: int) -> IntervalRow:
    return _first_or_create(IntervalRow, every=seconds, period=IntervalRow.SECONDS)


def _first_or_create(model: Any, **values: Any) -> Any:
    """django-celery-beat has no unique key on its schedules: `get` may find two. In
    bulk, for the signal of a single `create` notes a change, as above."""
    found = model.objects.filter(**values).first()
    return found or model.objects.bulk_create([model(**values)])[0]
