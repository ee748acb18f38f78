"""What time alone decides: expired leases and passed start deadlines."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction

from tasks_app.choices import Delivery, EventKind, RunStatus
from tasks_app.ledger.dialects import as_json, as_time, dialect, fetch
from tasks_app.ledger.downstream import release
from tasks_app.ledger.events import Event, record
from tasks_app.ledger.records import Ended
from tasks_app.rules.retry import retry_decision
from tasks_app.rules.states import TERMINAL

_LOST = "the worker stopped sending heartbeats"


def reap(limit: int = 500) -> int:
    """RUNNING with an expired lease -> QUEUED later, LOST, or CANCELLED.

    `at_least_once` tasks get another attempt while `max_attempts` allows one; a run
    whose cancel was asked for is CANCELLED; every other is LOST. Fence: the run is
    still running the attempt whose lease expired.

    Returns:
        How many runs were reaped.
    """
    sql = dialect()
    with transaction.atomic(savepoint=False):
        expired = fetch(
            f"""
            SELECT id, attempt, cancel_requested_at IS NOT NULL,
                (SELECT definition FROM tasks_app_taskversion v WHERE v.id = version_id)
            FROM tasks_app_taskrun
            WHERE status = %s AND lease_expires_at < {sql.now}
            ORDER BY lease_expires_at LIMIT %s {sql.skip_locked}
            """,
            RunStatus.RUNNING,
            limit,
        )
        rows = _reap([_verdict(row) for row in expired])
        record(
            Event(
                run_id,
                EventKind.RETRIED if status == RunStatus.QUEUED else EventKind.FINISHED,
                attempt,
                status,
                "reaper",
                {"outcome": RunStatus.LOST, "reason": "lost", "error": _LOST},
            )
            for run_id, attempt, status, *_ in rows
        )
        release(_ended(rows))
    return len(rows)


def _verdict(row: tuple[Any, ...]) -> dict[str, Any]:
    run_id, attempt, is_cancelled, definition = row
    rules = json.loads(definition)
    retry = None
    if rules["delivery"] == Delivery.AT_LEAST_ONCE and not is_cancelled:
        retry = retry_decision(
            status=RunStatus.LOST,
            attempt=attempt,
            max_attempts=rules["max_attempts"],
            initial_seconds=rules["retry_initial_seconds"],
            max_seconds=rules["retry_max_seconds"],
            backoff=rules["retry_backoff"],
            random=random.random,
        )
    status = RunStatus.CANCELLED if is_cancelled else RunStatus.LOST
    return {
        "run_id": run_id,
        "attempt": attempt,
        "status": RunStatus.QUEUED if retry else status,
        "retry_seconds": retry.delay_seconds if retry else None,
    }


_VERDICT = {
    "run_id": "int",
    "attempt": "int",
    "status": "text",
    "retry_seconds": "float",
}


def _reap(verdicts: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    sql = dialect()
    retry_at = sql.later("v.retry_seconds")
    return fetch(
        f"""
        UPDATE tasks_app_taskrun SET
            status = v.status,
            completed_at = CASE WHEN v.retry_seconds IS NULL THEN {sql.now} END,
            due_at = COALESCE({retry_at}, due_at),
            next_publish_at = COALESCE({retry_at}, next_publish_at),
            publish_count = 0,
            lease_expires_at = NULL,
            reason = 'lost',
            error = %s
        FROM {sql.rows(_VERDICT)}
        WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt
        AND tasks_app_taskrun.status = %s AND lease_expires_at < {sql.now}
        RETURNING id, tasks_app_taskrun.attempt, tasks_app_taskrun.status, task_id,
            COALESCE(root_id, id), scheduled_for
        """,
        _LOST,
        as_json(verdicts),
        RunStatus.RUNNING,
    )


def expire(limit: int = 500) -> int:
    """QUEUED -> EXPIRED, for runs whose start deadline has passed.

    Returns:
        How many runs expired.
    """
    sql = dialect()
    with transaction.atomic(savepoint=False):
        rows = fetch(
            f"""
            UPDATE tasks_app_taskrun SET
                status = %s, completed_at = {sql.now}, reason = 'start_deadline',
                error = 'it did not start within its start deadline'
            WHERE id IN (
                SELECT id FROM tasks_app_taskrun
                WHERE status = %s AND start_deadline_at <= {sql.now}
                ORDER BY start_deadline_at LIMIT %s {sql.skip_locked})
            AND status = %s
            RETURNING id, attempt, status, task_id, COALESCE(root_id, id), scheduled_for
            """,
            RunStatus.EXPIRED,
            RunStatus.QUEUED,
            limit,
            RunStatus.QUEUED,
        )
        record(
            Event(run_id, EventKind.FINISHED, attempt, status, "upkeep")
            for run_id, attempt, status, *_ in rows
        )
        release(_ended(rows))
    return len(rows)


def _ended(rows: Iterable[tuple[Any, ...]]) -> Iterable[Ended]:
    for run_id, _attempt, status, task_id, root_id, scheduled_for in rows:
        if status in TERMINAL:
            at: datetime = as_time(scheduled_for)
            yield Ended(run_id, task_id, root_id, status, at)
