"""What time alone decides: expired leases, passed deadlines, workers that left."""

from __future__ import annotations

import json
import random
from typing import Any

from django.conf import settings
from django.db import transaction

from tasks_app.choices import Delivery, EventKind, Placement, RunStatus
from tasks_app.ledger.dialects import as_json, as_time, dialect, fetch
from tasks_app.ledger.eligibility import QUEUED
from tasks_app.ledger.events import Event, record
from tasks_app.ledger.fleet import gone_worker_lanes
from tasks_app.ledger.pausing import LOST_AT_START, POISON_RUNS
from tasks_app.ledger.pruning import these, unfinished
from tasks_app.ledger.records import ENDED, Ended
from tasks_app.ledger.settling import settle
from tasks_app.rules.retry import retry_decision

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
            SELECT id, attempt, cancel_requested_at, started_at, lease_expires_at,
                (SELECT definition FROM tasks_app_taskversion v WHERE v.id = version_id)
            FROM tasks_app_taskrun
            WHERE status = %s AND lease_expires_at < {sql.now} {unfinished()}
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
                {"outcome": RunStatus.LOST, "error": _LOST},
            )
            for run_id, attempt, status, *_ in rows
        )
        settle([Ended.of(row) for row in rows])
    return len(rows)


def _verdict(row: tuple[Any, ...]) -> dict[str, Any]:
    run_id, attempt, cancel_requested_at, started_at, lease_expires_at, definition = row
    rules = json.loads(definition)
    held = (as_time(lease_expires_at) - as_time(started_at)).total_seconds()
    is_young = held < settings.LEASE_SECONDS + settings.HEARTBEAT_SECONDS / 2
    is_poison = is_young and attempt >= POISON_RUNS
    is_repeatable = rules["delivery"] == Delivery.AT_LEAST_ONCE
    retry = None
    if is_repeatable and cancel_requested_at is None and not is_poison:
        retry = retry_decision(
            status=RunStatus.LOST,
            attempt=attempt,
            max_attempts=rules["max_attempts"],
            initial_seconds=rules["retry_initial_seconds"],
            max_seconds=rules["retry_max_seconds"],
            backoff=rules["retry_backoff"],
            random=random.random,
        )
    status = RunStatus.LOST if cancel_requested_at is None else RunStatus.CANCELLED
    return {
        "run_id": run_id,
        "attempt": attempt,
        "status": RunStatus.QUEUED if retry else status,
        "reason": LOST_AT_START if is_young else "lost",
        "retry_seconds": retry.delay_seconds if retry else None,
    }


_VERDICT = {
    "run_id": "int",
    "attempt": "int",
    "status": "text",
    "reason": "text",
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
            admission = CASE WHEN v.retry_seconds IS NOT NULL
                AND admission = 'admitted' THEN 'held' ELSE admission END,
            lease_expires_at = NULL,
            reason = v.reason,
            error = %s
        FROM {sql.rows(_VERDICT)}
        WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt
        AND tasks_app_taskrun.status = %s AND lease_expires_at < {sql.now}
        {these([verdict["run_id"] for verdict in verdicts])}
        RETURNING {ENDED}
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
    return _expire(
        f"start_deadline_at <= {dialect().now} ORDER BY start_deadline_at",
        limit=limit,
        reason="start_deadline",
        error="'it did not start within its start deadline'",
    )


def expire_shards(limit: int = 500) -> int:
    """QUEUED -> EXPIRED, for runs of a broadcast whose worker has been offline for a
    lease: no other worker may take them.

    Returns:
        How many runs expired.
    """
    lanes = gone_worker_lanes()
    if not lanes:
        return 0
    marks = ", ".join(["%s"] * len(lanes))
    return _expire(
        f"""NOT (lane = '') AND lane IN ({marks}) AND EXISTS (
            SELECT 1 FROM tasks_app_taskversion v WHERE v.id = version_id
            AND v.definition ->> 'placement' = '{Placement.BROADCAST.value}')
            ORDER BY id""",
        *lanes,
        limit=limit,
        reason="worker_offline",
        error="substr(lane, 8) || ' went offline before it started'",
    )


def _expire(where: str, *params: str, limit: int, reason: str, error: str) -> int:
    sql, recent = dialect(), unfinished()
    with transaction.atomic(savepoint=False):
        rows = fetch(
            f"""
            UPDATE tasks_app_taskrun SET
                status = %s, completed_at = {sql.now}, reason = %s, error = {error}
            WHERE id IN (
                SELECT id FROM tasks_app_taskrun
                WHERE {QUEUED} {recent} AND {where} LIMIT %s {sql.skip_locked})
            AND {QUEUED} {recent}
            RETURNING {ENDED}
            """,
            RunStatus.EXPIRED,
            reason,
            *params,
            limit,
        )
        record(
            Event(run_id, EventKind.FINISHED, attempt, status, "upkeep")
            for run_id, attempt, status, *_ in rows
        )
        settle([Ended.of(row) for row in rows])
    return len(rows)
