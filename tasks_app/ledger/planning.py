"""Fires come due: each is accounted for by a run, and the cursor moves on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import structlog
from django.conf import settings
from django.db import DataError, IntegrityError, transaction

from tasks_app.choices import BlackoutAction, RunStatus, Trigger
from tasks_app.ledger.creating import create
from tasks_app.ledger.dialects import as_json, as_time, database_now, dialect, fetch
from tasks_app.ledger.due import DueTask, due_tasks
from tasks_app.ledger.events import Statement
from tasks_app.ledger.records import NewRun
from tasks_app.models import Calendar, Task, TaskRun, TaskVersion
from tasks_app.rules.blackout import (
    Blackout,
    BlackoutCalendar,
    WindowsInvalid,
    blackout_at,
    parse_windows,
)
from tasks_app.rules.errors import ScheduleInvalid
from tasks_app.rules.jitter import jitter
from tasks_app.rules.misfire import MisfirePlan, MisfirePolicy, misfire_plan
from tasks_app.rules.schedules import Schedule, next_fire

DROPPED = "missed during a pause: the schedule was changed before the task was resumed"

UNPLANNABLE = (DataError, IntegrityError, ScheduleInvalid)
"""What one task's row can do to the transaction of all."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Planned:
    """What one call of `plan` did. `is_complete`: no due task was left over."""

    tasks: int
    run_ids: list[int]
    is_complete: bool


def plan(limit: int = 500, task_ids: Sequence[int] | None = None) -> Planned:
    """Account for the fires that have come due: one run each, the cursor moved on.

    One transaction for up to `limit` tasks, all or the given ones. Locked tasks are
    another planner's and are passed over; should two plan the same fire all the same,
    the unique key (task, scheduled_for) lets one row through. A fire within a blackout
    is skipped or postponed, as its calendar says. If the tasks cannot be planned
    together, each is planned by itself, and those at fault are left and logged.
    """
    try:
        return _plan(limit, task_ids)
    except UNPLANNABLE:
        if task_ids is not None:
            raise
        log.exception("plan.batch_failed")
    return _plan_apart(limit)


def _plan_apart(limit: int) -> Planned:
    due = Task.objects.due(database_now()).order_by("next_fire_at", "-priority", "id")
    planned = []
    for task_id in due.values_list("pk", flat=True)[:limit]:
        try:
            planned.append(_plan(1, [task_id]))
        except UNPLANNABLE:
            log.exception("plan.task_failed", task_id=task_id)
    run_ids = [run_id for done in planned for run_id in done.run_ids]
    return Planned(len(planned), run_ids, is_complete=True)


def _plan(limit: int, task_ids: Sequence[int] | None) -> Planned:
    with transaction.atomic(savepoint=False):
        due = due_tasks(limit, task_ids)
        if due is None:
            return Planned(0, [], is_complete=True)
        blackouts = _blackouts(due.tasks)
        grace = settings.MISFIRE_GRACE_SECONDS
        plans = [(task, _decide(task, due.now, grace)) for task in due.tasks]
        runs = [
            run
            for task, decided in plans
            for run in _planned_runs(task, decided, blackouts.get(task.id, ()), due.now)
        ]
        # With the runs, unless there are none: a statement less.
        statement, params = _moves(plans)
        run_ids = create(runs, due.policies, (statement, params))
        if not runs:
            fetch(statement, *params)
    return Planned(len(due.tasks), run_ids, len(due.tasks) < limit)


def _blackouts(tasks: Sequence[DueTask]) -> dict[int, list[BlackoutCalendar]]:
    """The blackout calendars by the task's id, of those tasks that have any."""
    ids = [task.id for task in tasks if task.has_calendars]
    if not ids:
        return {}
    rows = Task.objects.filter(pk__in=ids).select_related("project")
    calendars = Calendars()
    return {
        row.pk: calendars.of(row)
        for row in rows.prefetch_related("calendars", "project__calendars")
    }


@dataclass(frozen=True, slots=True)
class PauseOutlook:
    """What becomes of the fires of a pause: all were missed, some run, the others are
    skipped. `next_fire_at` is the first fire that the pause does not hold back."""

    missed: int
    will_run: int
    will_skip: int
    next_fire_at: datetime | None


def pause_outlook(task: Task) -> PauseOutlook:
    """What `end_pause` would do now; changes nothing."""
    now = database_now()
    paused = _paused(task, task.schedule_rule())
    decided = _decide_about_pause(paused, now, is_dropped=False)
    runs = list(_planned_runs(paused, decided, Calendars().of(task), now))
    will_run = sum(run.status == RunStatus.QUEUED for run in runs)
    return _outlook(decided, will_run)


def end_pause(
    task: Task, schedule: Schedule | None, *, is_dropped: bool = False
) -> PauseOutlook:
    """Account for the fires that came due by `schedule` while the task was paused.

    All of them are missed, however short the pause; the misfire policy decides, or,
    where they are dropped, none runs. In the caller's transaction, which holds the
    task's row; the row's cursor is moved on, the object is not changed.
    """
    now = database_now()
    paused = _paused(task, schedule)
    decided = _decide_about_pause(paused, now, is_dropped=is_dropped)
    calendars = Calendars().of(task)
    run_ids = create(list(_planned_runs(paused, decided, calendars, now)))
    statement, params = _moves([(paused, decided)])
    fetch(statement, *params)
    started = TaskRun.objects.filter(pk__in=run_ids).exclude(status=RunStatus.SKIPPED)
    fires = started.order_by().values("scheduled_for").distinct()
    return _outlook(decided, fires.count() if decided.run else 0)


def _outlook(decided: MisfirePlan, will_run: int) -> PauseOutlook:
    summed = decided.summary.count if decided.summary else 0
    missed = len(decided.run) + len(decided.skipped) + summed
    return PauseOutlook(missed, will_run, missed - will_run, decided.next_fire_at)


def _paused(task: Task, schedule: Schedule | None) -> DueTask:
    """A paused task, whose row may say otherwise than the object, as if it were due."""
    return DueTask(
        id=task.pk,
        version_id=TaskVersion.objects.get(task=task, number=task.version).pk,
        queue=task.queue,
        misfire=task.misfire,
        jitter_seconds=task.jitter_seconds,
        start_deadline_seconds=task.start_deadline_seconds,
        next_fire_at=task.next_fire_at,
        has_calendars=True,
        schedule=schedule,
    )


def _decide_about_pause(
    task: DueTask, now: datetime, *, is_dropped: bool
) -> MisfirePlan:
    if task.next_fire_at is None and task.schedule is not None:
        # Paused by an earlier release, which forgot the cursor: count from now.
        fresh = next_fire(task.schedule, now)
        return MisfirePlan(run=[], skipped=[], summary=None, next_fire_at=fresh)
    policy = "none" if is_dropped else task.misfire
    decided = _decide(task, now, grace_seconds=0, policy=policy)
    reason = decided.skip_reason.replace("missed", "missed during a pause", 1)
    return dataclasses.replace(decided, skip_reason=DROPPED if is_dropped else reason)


def _decide(
    task: DueTask, now: datetime, grace_seconds: float, policy: str | None = None
) -> MisfirePlan:
    cursor, schedule = task.next_fire_at, task.schedule
    if schedule is None or cursor is None:
        return MisfirePlan(run=[], skipped=[], summary=None, next_fire_at=None)
    return misfire_plan(
        schedule,
        cursor,
        now,
        cast("MisfirePolicy", policy or task.misfire),
        cap=settings.MISFIRE_CAP,
        misfire_grace_seconds=grace_seconds,
    )


class Calendars:
    """The blackout calendars of tasks and of their projects, each read once."""

    def __init__(self) -> None:
        self._read: dict[int, BlackoutCalendar] = {}

    def of(self, task: Task) -> list[BlackoutCalendar]:
        rows = {row.pk: row for row in task.calendars.all()}
        rows |= {row.pk: row for row in task.project.calendars.all()}
        return [self._rule(row) for row in rows.values()]

    def _rule(self, row: Calendar) -> BlackoutCalendar:
        if row.pk not in self._read:
            try:
                self._read[row.pk] = calendar_rule(row)
            except (WindowsInvalid, ScheduleInvalid) as error:
                # One calendar that nobody can read must not stop all planning.
                log.exception(
                    "calendar.unreadable", calendar=row.name, error=str(error)
                )
                self._read[row.pk] = BlackoutCalendar(row.name, "skip", ())
        return self._read[row.pk]


def calendar_rule(row: Calendar) -> BlackoutCalendar:
    """A calendar as a rule that can be asked.

    Raises:
        WindowsInvalid, ScheduleInvalid: what is stored cannot be read.
    """
    windows = parse_windows(row.windows, row.timezone)
    is_skip = row.action == BlackoutAction.SKIP
    return BlackoutCalendar(row.name, "skip" if is_skip else "postpone", windows)


def _planned_runs(
    task: DueTask,
    decided: MisfirePlan,
    calendars: Sequence[BlackoutCalendar],
    now: datetime,
) -> Iterator[NewRun]:
    for at in decided.run:
        yield _fired(task, at, blackout_at(calendars, at), now)
    for at in decided.skipped:
        yield _run(task, at, status=RunStatus.SKIPPED, reason=decided.skip_reason)
    if decided.summary:
        span = decided.summary
        yield _run(
            task,
            span.last,
            status=RunStatus.SKIPPED,
            reason=f"{span.count} fires {decided.skip_reason}",
            result={
                "skipped": span.count,
                "first": span.first.isoformat(),
                "last": span.last.isoformat(),
            },
        )


def _run(task: DueTask, at: datetime, **values: object) -> NewRun:
    return NewRun(
        task_id=task.id,
        version_id=task.version_id,
        trigger=Trigger.SCHEDULE,
        queue=task.queue,
        scheduled_for=at,
        **values,  # type: ignore[arg-type]
    )


def _fired(
    task: DueTask, at: datetime, blackout: Blackout | None, now: datetime
) -> NewRun:
    """The run of a fire: skipped or postponed by a blackout, delayed by its jitter."""
    reason, begins = "", at
    if blackout is not None:
        reason = blackout_reason(blackout)
        if blackout.action == "skip" or blackout.until is None:
            return _run(task, at, status=RunStatus.SKIPPED, reason=reason)
        reason, begins = f"postponed: {reason}", blackout.until
    if task.jitter_seconds:
        begins += jitter(task.id, at, task.jitter_seconds)
    delay = max(begins - now, timedelta(0))
    patience = task.start_deadline_seconds
    return _run(
        task,
        at,
        due_at=begins if delay else None,
        trigger_reason=reason,
        # Counts from when the run may start, not from its creation.
        start_deadline_seconds=patience and patience + delay.total_seconds(),
    )


def blackout_reason(blackout: Blackout) -> str:
    """`blackout <calendar> until <time>`."""
    if blackout.until is None:
        return f"blackout {blackout.calendar}, without an end in sight"
    until = blackout.until.isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"blackout {blackout.calendar} until {until}"


def _moves(plans: Iterable[tuple[DueTask, MisfirePlan]]) -> Statement:
    """Moves the cursors on."""
    moves = [
        {"id": task.id, "was": task.next_fire_at, "becomes": decided.next_fire_at}
        for task, decided in plans
    ]
    sql = dialect()
    statement = f"""
        UPDATE tasks_app_task SET next_fire_at = v.becomes
        FROM {sql.rows({"id": "int", "was": "time", "becomes": "time"})}
        WHERE tasks_app_task.id = v.id AND tasks_app_task.next_fire_at = v.was
        """
    return statement, [as_json(moves)]


def seconds_until_due() -> float | None:
    """From the database's now to the earliest cursor of all active tasks, negative if
    that has passed; None if there is none."""
    sql = dialect()
    rows = fetch(
        f"""
        SELECT next_fire_at, {sql.now} FROM tasks_app_task
        WHERE status = 'active' AND next_fire_at IS NOT NULL
        ORDER BY next_fire_at LIMIT 1
        """
    )
    if not rows:
        return None
    due_at, now = map(as_time, rows[0])
    return float((due_at - now).total_seconds())
