"""Runs come into being: planned by the clock, or asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from tasks_app.choices import EventKind, RunStatus, Trigger
from tasks_app.ledger.dialects import as_json, database_now, dialect, fetch
from tasks_app.ledger.events import Event, record
from tasks_app.ledger.records import NewRun
from tasks_app.models import Task, TaskVersion
from tasks_app.rules.misfire import MisfirePlan, MisfirePolicy, misfire_plan
from tasks_app.signals import runs_ready

_NEW_RUN = {
    "task_id": "int",
    "version_id": "int",
    "trigger": "text",
    "queue": "text",
    "status": "text",
    "scheduled_for": "time",
    "reason": "text",
    "triggered_by": "text",
    "trigger_reason": "text",
    "params": "json",
    "result": "json",
    "start_deadline_seconds": "float",
    "root_id": "int",
    "parent_id": "int",
    "rerun_of_id": "int",
}


def create(runs: Sequence[NewRun]) -> list[int]:
    """Insert runs, queued or already skipped, and tell that queued ones are ready.

    A run whose key exists already (a fire of a task; a task under one root run) is
    passed over: whoever inserted it first has accounted for it.

    Returns:
        The ids of the runs that are new, in the order of their insertion.
    """
    if not runs:
        return []
    sql = dialect()
    with transaction.atomic(savepoint=False):
        rows = fetch(
            f"""
            INSERT INTO tasks_app_taskrun (
                task_id, version_id, "trigger", queue, status, scheduled_for, reason,
                triggered_by, trigger_reason, params, result, start_deadline_at,
                root_id, parent_id, rerun_of_id, created_at, due_at, next_publish_at,
                completed_at, attempt, publish_count, error, log_truncated)
            SELECT
                task_id, version_id, "trigger", queue, status,
                COALESCE(scheduled_for, {sql.now}), reason, triggered_by,
                trigger_reason, params, result,
                {sql.later("start_deadline_seconds")}, root_id, parent_id,
                rerun_of_id, {sql.now}, {sql.now}, {sql.now},
                CASE WHEN status <> %s THEN {sql.now} END, 0, 0, '', {sql.false}
            FROM {sql.rows(_NEW_RUN)} WHERE true
            ON CONFLICT DO NOTHING
            RETURNING id, status, triggered_by
            """,
            RunStatus.QUEUED,
            as_json(runs),
        )
        record(
            Event(run_id, EventKind.CREATED, 0, status, actor)
            for run_id, status, actor in rows
        )
        announce([row[0] for row in rows if row[1] == RunStatus.QUEUED])
    return [row[0] for row in rows]


def announce(run_ids: list[int]) -> None:
    """Tell, once the transaction has committed, that queued runs may start."""
    if run_ids:
        transaction.on_commit(
            lambda: runs_ready.send_robust(sender=None, run_ids=run_ids)
        )


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
    the unique key (task, scheduled_for) lets one row through.
    """
    with transaction.atomic(savepoint=False):
        now = database_now()
        tasks = _due_tasks(now, limit, task_ids)
        versions = _current_versions(tasks)
        plans = [(task, _misfire_plan(task, now)) for task in tasks]
        runs = [
            run
            for task, decided in plans
            for run in _planned_runs(task, versions[task.pk], decided)
        ]
        run_ids = create(runs)
        _advance_cursors(plans)
    return Planned(len(tasks), run_ids, len(tasks) < limit)


def _due_tasks(now: datetime, limit: int, task_ids: Sequence[int] | None) -> list[Task]:
    due = Task.objects.due(now).order_by("next_fire_at")
    if task_ids is not None:
        due = due.filter(pk__in=task_ids)
    if connection.features.has_select_for_update_skip_locked:
        due = due.select_for_update(skip_locked=True, of=("self",))
    return list(
        due.select_related(
            "schedule__crontab", "schedule__interval", "schedule__clocked"
        )[:limit]
    )


def _current_versions(tasks: Sequence[Task]) -> dict[int, int]:
    """The id of the current version by the task's id."""
    return dict(
        TaskVersion.objects.filter(
            task__in=[task.pk for task in tasks], number=F("task__version")
        ).values_list("task_id", "id")
    )


def _misfire_plan(task: Task, now: datetime) -> MisfirePlan:
    schedule = task.schedule_rule()
    cursor = task.next_fire_at
    if schedule is None or cursor is None:
        return MisfirePlan(run=[], skipped=[], summary=None, next_fire_at=None)
    return misfire_plan(
        schedule,
        cursor,
        now,
        cast("MisfirePolicy", task.misfire),
        cap=settings.MISFIRE_CAP,
        misfire_grace_seconds=settings.MISFIRE_GRACE_SECONDS,
    )


def _planned_runs(
    task: Task, version_id: int, decided: MisfirePlan
) -> Iterator[NewRun]:
    def run(at: datetime, **values: object) -> NewRun:
        return NewRun(
            task_id=task.pk,
            version_id=version_id,
            trigger=Trigger.SCHEDULE,
            queue=task.queue,
            scheduled_for=at,
            **values,  # type: ignore[arg-type]
        )

    for at in decided.run:
        yield run(at, start_deadline_seconds=task.start_deadline_seconds)
    for at in decided.skipped:
        yield run(at, status=RunStatus.SKIPPED, reason=decided.skip_reason)
    if decided.summary:
        span = decided.summary
        yield run(
            span.last,
            status=RunStatus.SKIPPED,
            reason=f"{span.count} fires {decided.skip_reason}",
            result={
                "skipped": span.count,
                "first": span.first.isoformat(),
                "last": span.last.isoformat(),
            },
        )


def _advance_cursors(plans: Sequence[tuple[Task, MisfirePlan]]) -> None:
    moves = [
        {"id": task.pk, "was": task.next_fire_at, "becomes": decided.next_fire_at}
        for task, decided in plans
    ]
    if moves:
        sql = dialect()
        fetch(
            f"""
            UPDATE tasks_app_task SET next_fire_at = v.becomes
            FROM {sql.rows({"id": "int", "was": "time", "becomes": "time"})}
            WHERE tasks_app_task.id = v.id AND tasks_app_task.next_fire_at = v.was
            """,
            as_json(moves),
        )


def next_fire_at() -> datetime | None:
    """The earliest cursor of all active tasks: when `plan` has work next."""
    return (
        Task.objects.filter(status="active", next_fire_at__isnull=False)
        .order_by("next_fire_at")
        .values_list("next_fire_at", flat=True)
        .first()
    )
