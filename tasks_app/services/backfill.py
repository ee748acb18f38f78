"""Backfill: runs for the nominal times of the past that have none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction

from tasks_app import ledger
from tasks_app.choices import RunStatus, TaskStatus, Trigger
from tasks_app.errors import InvalidInput, NoSchedule, TaskDeleted, TooManyQueuedRuns
from tasks_app.ledger.planning import Calendars
from tasks_app.models import Task, TaskRun, TaskVersion
from tasks_app.rules.blackout import blackout_at
from tasks_app.rules.cron import TICK
from tasks_app.rules.schedules import Schedule, count_fires, fires_between
from tasks_app.services.runs import WAITS_TOO_LONG
from tasks_app.services.tasks import task_lock


@dataclass(frozen=True, slots=True)
class BackfillInput:
    """What to make up for: the nominal times in [start, end)."""

    start: datetime
    end: datetime
    is_newest_first: bool = False
    with_blackouts: bool = False


@dataclass(frozen=True, slots=True)
class Backfill:
    """The fires that a backfill runs, in its order, and how many it leaves out: those
    that ran, or will, and those within a blackout. `run_ids` once they are made."""

    fires: list[datetime]
    already_run: int
    in_blackout: int
    run_ids: list[int]


def backfill_preview(*, task_id: int, given: BackfillInput) -> Backfill:
    """What a backfill would run; changes nothing. Raises as `backfill_create`."""
    task = Task.objects.select_related("project").get(pk=task_id)
    if task.status == TaskStatus.DELETED:
        raise TaskDeleted
    return _backfill(task, given)


@transaction.atomic
def backfill_create(*, task_id: int, given: BackfillInput, actor: str) -> Backfill:
    """Create a run for each nominal time of the task's schedule, as it is now, that has
    no run of the schedule or of a backfill; skipped and expired ones are none. With
    the task's current definition, and no start deadline.

    Raises:
        InvalidInput: the window is wrong, or has more than BACKFILL_CAP fires.
        NoSchedule: the task has no schedule.
        TooManyQueuedRuns: more runs would wait than the task allows.
        TaskDeleted: the task has been deleted.
    """
    task = task_lock(task_id)  # two backfills take turns, and see each other's runs
    found = _backfill(task, given)
    version = TaskVersion.objects.get(task=task, number=task.version)
    # Due one after the other, all by now: claims go by that, whatever the ids.
    begin = ledger.database_now() - len(found.fires) * TICK
    run_ids = ledger.create(
        [
            ledger.NewRun(
                task_id=task.pk,
                version_id=version.pk,
                trigger=Trigger.BACKFILL,
                queue=task.queue,
                scheduled_for=at,
                due_at=begin + index * TICK,
                triggered_by=actor,
            )
            for index, at in enumerate(found.fires)
        ]
    )
    refused = TaskRun.objects.filter(
        pk__in=run_ids, status=RunStatus.SKIPPED, reason__endswith=WAITS_TOO_LONG
    )
    if refused.exists():
        raise TooManyQueuedRuns(
            f"The backfill has {len(found.fires)} runs, {refused.count()} more than may"
            " wait: choose a shorter window, or raise the task's max_queued."
        )
    return Backfill(found.fires, found.already_run, found.in_blackout, run_ids)


def _backfill(task: Task, given: BackfillInput) -> Backfill:
    schedule = task.schedule_rule()
    if schedule is None:
        raise NoSchedule
    nominal = _nominal(schedule, given.start, _checked_end(task, given))
    ran = _fires_that_ran(task, given)
    missing = [at for at in nominal if at not in ran]
    calendars = [] if given.with_blackouts else Calendars().of(task)
    fires = [at for at in missing if blackout_at(calendars, at) is None]
    if given.is_newest_first:
        fires.reverse()
    return Backfill(fires, len(nominal) - len(missing), len(missing) - len(fires), [])


def _checked_end(task: Task, given: BackfillInput) -> datetime:
    """The end of the window, before what the planner has yet to decide about.

    Raises:
        InvalidInput: it is not a span of the past.
    """
    if given.start >= given.end:
        raise InvalidInput.of("to", "end_before_start", "to is after from")
    if given.end > ledger.database_now():
        message = "to is in the future; what is to come is the schedule's"
        raise InvalidInput.of("to", "in_the_future", message)
    cursor = task.next_fire_at
    if cursor is None or cursor >= given.end:
        return given.end
    if task.status == TaskStatus.PAUSED:
        raise InvalidInput.of(
            "to",
            "paused",
            f"the task is paused, and its resume decides about the fires from"
            f" {_iso(cursor)} on: resume it first, or end there",
        )
    return cursor


def _nominal(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """The nominal times in [start, end), the oldest first.

    Raises:
        InvalidInput: they are too many.
    """
    after, until, cap = start - TICK, end - TICK, settings.BACKFILL_CAP
    fires = fires_between(schedule, after, until, cap + 1)
    if len(fires) > cap:
        count = count_fires(schedule, after, until)
        raise InvalidInput.of(
            "to",
            "too_many_fires",
            f"the window has {count} fires, and a backfill at most {cap}"
            f" (BACKFILL_CAP): end it at {_iso(fires[-1])}, and go on from there",
        )
    return fires


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _fires_that_ran(task: Task, given: BackfillInput) -> set[datetime]:
    runs = TaskRun.objects.filter(
        task=task,
        trigger__in=[Trigger.SCHEDULE, Trigger.BACKFILL],
        scheduled_for__gte=given.start,
        scheduled_for__lt=given.end,
    ).exclude(status__in=[RunStatus.SKIPPED, RunStatus.EXPIRED])
    return set(runs.order_by().values_list("scheduled_for", flat=True))
