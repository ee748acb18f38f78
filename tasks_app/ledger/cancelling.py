"""Cancel: at once for a queued run, by its worker for a running one."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from django.db import transaction

from tasks_app.choices import EventKind, RunStatus
from tasks_app.ledger.dialects import as_json, as_time, dialect, fetch
from tasks_app.ledger.downstream import release
from tasks_app.ledger.events import Event, record
from tasks_app.ledger.records import Ended


class CancelAnswer(Enum):
    """What a cancel achieved."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"


def cancel(run_ids: Sequence[int], actor: str) -> dict[int, CancelAnswer]:
    """QUEUED -> CANCELLED; for a RUNNING run, flag it for its worker.

    The worker learns of the flag with its next heartbeat, sends SIGTERM, and
    finishes the run; if the run completes first, completion wins. A run that is
    missing from the answer had reached a terminal state (or does not exist).
    """
    sql = dialect()
    with transaction.atomic(savepoint=False):
        rows = fetch(
            f"""
            UPDATE tasks_app_taskrun SET
                status = CASE status WHEN %s THEN %s ELSE status END,
                completed_at = CASE status WHEN %s THEN {sql.now} END,
                reason = CASE status WHEN %s THEN 'cancelled' ELSE reason END,
                cancel_requested_at = COALESCE(cancel_requested_at, {sql.now})
            WHERE id IN (
                SELECT id FROM tasks_app_taskrun
                WHERE id IN ({sql.ids()}) ORDER BY id {sql.lock})
            AND status IN (%s, %s)
            RETURNING id, attempt, status, task_id, COALESCE(root_id, id), scheduled_for
            """,
            RunStatus.QUEUED,
            RunStatus.CANCELLED,
            RunStatus.QUEUED,
            RunStatus.QUEUED,
            as_json(run_ids),
            RunStatus.QUEUED,
            RunStatus.RUNNING,
        )
        record(
            Event(
                run_id,
                EventKind.FINISHED
                if status == RunStatus.CANCELLED
                else EventKind.CANCEL_REQUESTED,
                attempt,
                status,
                actor,
            )
            for run_id, attempt, status, *_ in rows
        )
        release(
            Ended(run_id, task_id, root_id, status, as_time(scheduled_for))
            for run_id, _, status, task_id, root_id, scheduled_for in rows
            if status == RunStatus.CANCELLED
        )
    return {
        row[0]: CancelAnswer.CANCELLED
        if row[2] == RunStatus.CANCELLED
        else CancelAnswer.REQUESTED
        for row in rows
    }
