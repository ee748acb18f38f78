"""An attempt's life: claimed by a worker, kept by heartbeats, finished once.

`attempt` is the fencing token. Whoever speaks for an attempt that the run has left
behind changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import transaction

from tasks_app.choices import EventKind, RunStatus
from tasks_app.ledger.creating import announce
from tasks_app.ledger.dialects import as_json, as_time, dialect, fetch
from tasks_app.ledger.downstream import release
from tasks_app.ledger.events import Event, record
from tasks_app.ledger.records import (
    Beat,
    ClaimedRun,
    Ended,
    Finish,
    HeartbeatAnswer,
    Lease,
    LogChunk,
)
from tasks_app.models import TaskRun
from tasks_app.rules.states import TERMINAL


def claim(run_ids: Sequence[int], worker_id: int) -> list[ClaimedRun]:
    """QUEUED -> RUNNING: start the next attempt of each run that may start now.

    Fence: the run is queued, due, and within its start deadline. A run that is not
    in the answer is another worker's, or not to be run: say nothing and go on.
    """
    sql = dialect()
    with transaction.atomic(savepoint=False):
        rows = fetch(
            f"""
            UPDATE tasks_app_taskrun SET
                status = %s, attempt = attempt + 1, worker_id = %s,
                started_at = {sql.now}, lease_expires_at = {sql.later("%s")}
            WHERE id IN (
                SELECT id FROM tasks_app_taskrun
                WHERE id IN ({sql.ids()}) AND status = %s AND due_at <= {sql.now}
                AND (start_deadline_at IS NULL OR start_deadline_at > {sql.now})
                ORDER BY id {sql.skip_locked})
            AND status = %s
            RETURNING id, attempt, task_id, scheduled_for, params,
                (SELECT name FROM tasks_app_task t WHERE t.id = task_id),
                (SELECT definition FROM tasks_app_taskversion v WHERE v.id = version_id)
            """,
            RunStatus.RUNNING,
            worker_id,
            settings.LEASE_SECONDS,
            as_json(run_ids),
            RunStatus.QUEUED,
            RunStatus.QUEUED,
        )
        claimed = [_claimed(row) for row in rows]
        record(
            Event(
                run.run_id,
                EventKind.STARTED,
                run.attempt,
                RunStatus.RUNNING,
                detail={"worker_id": worker_id},
            )
            for run in claimed
        )
    return claimed


def _claimed(row: tuple[Any, ...]) -> ClaimedRun:
    run_id, attempt, task_id, scheduled_for, params, task_name, definition = row
    return ClaimedRun(
        run_id=run_id,
        attempt=attempt,
        task_id=task_id,
        task_name=task_name,
        scheduled_for=as_time(scheduled_for),
        params=json.loads(params),
        definition=json.loads(definition),
    )


def heartbeat(beat: Beat, leases: Sequence[Lease]) -> HeartbeatAnswer:
    """Note that a worker lives, renew its leases, and learn what to stop.

    One statement on PostgreSQL. Fence: each lease's run is running this attempt;
    one that is not comes back as `gone`, and its job is to be stopped.
    """
    sql = dialect()
    # The worker's row belongs to workers_app; it is named here so that a fleet's
    # heartbeats cost one statement each.
    tell = f"""
        UPDATE workers_app_workerinfo
        SET last_heartbeat = {sql.now}, status = %s, current_tasks = %s WHERE id = %s
        """
    renew = f"""
        UPDATE tasks_app_taskrun SET lease_expires_at = {sql.later("%s")}
        FROM {sql.rows({"run_id": "int", "attempt": "int"})}
        WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt AND status = %s
        RETURNING id, cancel_requested_at
        """
    told = (beat.status, beat.current_tasks, beat.worker_id)
    renewed = (settings.LEASE_SECONDS, as_json(leases), RunStatus.RUNNING)
    if sql.writes_in_cte:
        rows = fetch(f"WITH beat AS ({tell}) {renew}", *told, *renewed)
    else:
        with transaction.atomic(savepoint=False):
            fetch(tell, *told)
            rows = fetch(renew, *renewed)
    held = {run_id for run_id, _cancel_requested_at in rows}
    return HeartbeatAnswer(
        cancel=frozenset(run_id for run_id, asked_at in rows if asked_at),
        gone=frozenset(lease.run_id for lease in leases if lease.run_id not in held),
    )


_FINISH = {
    "run_id": "int",
    "attempt": "int",
    "status": "text",
    "exit_code": "int",
    "result": "json",
    "error": "text",
    "reason": "text",
    "log_truncated": "bool",
    "retry_seconds": "float",
}


def finish(finishes: Sequence[Finish]) -> frozenset[Lease]:
    """RUNNING -> a terminal state, or -> QUEUED for the next attempt.

    Fence: the run is running this very attempt. A finish that comes too late is kept
    as a `stale_result` event and changes nothing (C5). A run whose cancel was asked
    for is not retried. Children are created in the same transaction. A finish that is
    repeated, because its answer was lost with the connection, counts as accepted.

    Returns:
        The attempts whose outcome was accepted.
    """
    if not finishes:
        return frozenset()
    with transaction.atomic(savepoint=False):
        rows = _end_attempts(finishes)
        accepted = {Lease(row[0], row[1]): row for row in rows}
        refused = [done for done in finishes if done.lease not in accepted]
        repeated = _repeated(refused)
        record(
            _finish_event(done, accepted.get(done.lease))
            for done in finishes
            if done.lease not in repeated
        )
        release(
            Ended(run_id, task_id, root_id, status, as_time(scheduled_for))
            for run_id, _, status, task_id, root_id, scheduled_for, _ in rows
            if status in TERMINAL
        )
        announce(_ready_at_once(finishes, accepted))
    return frozenset(accepted) | repeated


def _end_attempts(finishes: Sequence[Finish]) -> list[tuple[Any, ...]]:
    """The compare-and-set of `finish`; returns the runs that it changed."""
    sql = dialect()
    is_retry = "(v.retry_seconds IS NOT NULL AND cancel_requested_at IS NULL)"
    return fetch(
        f"""
        UPDATE tasks_app_taskrun SET
            status = CASE WHEN {is_retry} THEN %s ELSE v.status END,
            completed_at = CASE WHEN NOT {is_retry} THEN {sql.now} END,
            due_at = CASE WHEN {is_retry}
                THEN {sql.later("v.retry_seconds")} ELSE due_at END,
            next_publish_at = CASE WHEN {is_retry}
                THEN {sql.later("v.retry_seconds")} ELSE next_publish_at END,
            publish_count = CASE WHEN {is_retry} THEN 0 ELSE publish_count END,
            lease_expires_at = NULL,
            exit_code = v.exit_code,
            result = v.result,
            error = v.error,
            reason = v.reason,
            log_truncated = v.log_truncated
        FROM {sql.rows(_FINISH)}
        WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt
        AND tasks_app_taskrun.status = %s
        RETURNING id, tasks_app_taskrun.attempt, tasks_app_taskrun.status, task_id,
            COALESCE(root_id, id), scheduled_for, due_at
        """,
        RunStatus.QUEUED,
        as_json(finishes),
        RunStatus.RUNNING,
    )


def _repeated(refused: Sequence[Finish]) -> frozenset[Lease]:
    """Those of the refused finishes that the run already shows."""
    if not refused:
        return frozenset()
    shown = {
        run_id: (attempt, status)
        for run_id, attempt, status in TaskRun.objects.filter(
            pk__in=[done.run_id for done in refused]
        ).values_list("id", "attempt", "status")
    }
    return frozenset(
        done.lease
        for done in refused
        if shown.get(done.run_id) == (done.attempt, done.status)
        or (
            done.retry_seconds is not None
            and shown.get(done.run_id) == (done.attempt, RunStatus.QUEUED)
        )
    )


def _finish_event(done: Finish, row: tuple[Any, ...] | None) -> Event:
    detail = {
        "outcome": done.status,
        "exit_code": done.exit_code,
        "reason": done.reason,
        "error": done.error,
    }
    if row is None:
        kind, status = EventKind.STALE_RESULT, done.status
    elif row[2] == RunStatus.QUEUED:
        kind, status = EventKind.RETRIED, RunStatus.QUEUED
        detail["due_at"] = as_time(row[6]).isoformat()
    else:
        kind, status = EventKind.FINISHED, row[2]
    return Event(done.run_id, kind, done.attempt, status, detail=detail)


def _ready_at_once(
    finishes: Sequence[Finish], accepted: dict[Lease, tuple[Any, ...]]
) -> list[int]:
    """Runs whose next attempt is due without delay."""
    return [
        done.run_id
        for done in finishes
        if done.retry_seconds == 0
        and done.lease in accepted
        and accepted[done.lease][2] == RunStatus.QUEUED
    ]


_LOG_CHUNK = {
    "run_id": "int",
    "attempt": "int",
    "seq": "int",
    "stream": "text",
    "text": "text",
    "age_seconds": "float",
}


def append_logs(chunks: Sequence[LogChunk]) -> None:
    """Store pieces of output. A piece that is stored already is passed over."""
    if not chunks:
        return
    sql = dialect()
    fetch(
        f"""
        INSERT INTO tasks_app_runlog (run_id, attempt, seq, at, stream, text)
        SELECT run_id, attempt, seq, {sql.later("-age_seconds")}, stream, text
        FROM {sql.rows(_LOG_CHUNK)} WHERE true
        ON CONFLICT DO NOTHING
        """,
        as_json(chunks),
    )
