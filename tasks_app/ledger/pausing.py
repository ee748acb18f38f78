"""Tasks that pause themselves: after failures in a row, or when workers die of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import connection
from django.db.models import Max

from tasks_app.choices import AlertKind, RunStatus, TaskStatus
from tasks_app.ledger.alerts import alert_raise
from tasks_app.ledger.dialects import fetch
from tasks_app.ledger.records import Ended
from tasks_app.ledger.searching import LOOK_UP
from tasks_app.models import Task

FAILING = frozenset({RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.LOST})
COUNTED = (RunStatus.SUCCEEDED, *sorted(FAILING))
LOST_AT_START = "lost_at_start"
"""The reason of a run whose worker died before it sent a heartbeat for it."""
KINDS = (AlertKind.PAUSED_ITSELF, AlertKind.POISON)
POISON_RUNS = 3
"""So many of these in a row are no accident: the task takes its workers down."""


def pause_failing(ended: Sequence[Ended]) -> None:
    """ACTIVE -> PAUSED, with an alert: a task whose last runs all failed, as many as
    it says, or whose workers died at once three times. Runs that were skipped, were
    cancelled or have expired count neither way."""
    failed = {end.task_id for end in ended if end.status in FAILING}
    if not failed:
        return
    for task in Task.objects.filter(pk__in=failed, status=TaskStatus.ACTIVE):
        reason = _reason(task)
        if reason:
            _pause(task, *reason)


def _reason(task: Task) -> tuple[AlertKind, str] | None:
    # What it was paused for before is settled: whoever resumes it starts it anew.
    settled = task.alerts.filter(kind__in=KINDS).aggregate(at=Max("resolved_at"))["at"]
    last = _last_counted(
        task.pk, settled, max(POISON_RUNS, task.pause_after_failures or 0)
    )
    died = [reason == LOST_AT_START for _status, reason, _attempt in last[:POISON_RUNS]]
    # The attempts of one run count like runs.
    is_poison = (
        bool(died)
        and all(died)
        and (len(died) == POISON_RUNS or last[0][2] >= POISON_RUNS)
    )
    if is_poison:
        times = f"{POISON_RUNS} times in a row its worker died as soon as it ran"
        return AlertKind.POISON, times
    streak = task.pause_after_failures
    statuses = [status for status, _reason, _attempt in last[:streak]]
    if streak and len(statuses) == streak and RunStatus.SUCCEEDED not in statuses:
        return AlertKind.PAUSED_ITSELF, f"its last {streak} runs failed"
    return None


def _last_counted(
    task_id: int, settled_at: datetime | None, count: int
) -> list[tuple[str, str, int]]:
    """Status, reason and attempt of the last runs that ended well or badly, newest
    first, among the newest LOOK_UP runs of the task. A task that is skipped every
    second, say because it overlaps itself, has no more to be looked through: this is
    asked within the transaction that ends a run."""
    conditions = f"status IN ({', '.join(['%s'] * len(COUNTED))})"
    params: list[object] = [task_id, *COUNTED]
    if settled_at is not None:
        conditions += " AND completed_at > %s"
        params.append(connection.ops.adapt_datetimefield_value(settled_at))
    rows = fetch(
        f"""
        SELECT status, reason, attempt FROM (
            SELECT id, status, reason, attempt, completed_at FROM tasks_app_taskrun
            WHERE task_id = %s ORDER BY id DESC LIMIT {LOOK_UP}) AS newest
        WHERE {conditions} ORDER BY id DESC LIMIT {count}
        """,
        *params,
    )
    return [(status, reason, attempt) for status, reason, attempt in rows]


def _pause(task: Task, kind: AlertKind, message: str) -> None:
    paused = Task.objects.filter(pk=task.pk, status=TaskStatus.ACTIVE).update(
        status=TaskStatus.PAUSED, status_reason=message
    )
    if paused:
        alert_raise(kind, f"task:{task.pk}", f"{task.name}: {message}", task_id=task.pk)
