"""Cancel: at once for a queued run, by its worker for a running one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from django.db import transaction

from tasks_app.choices import EventKind, RunStatus
from tasks_app.ledger.announcing import announce
from tasks_app.ledger.dialects import as_json, dialect, fetch
from tasks_app.ledger.events import Event, record
from tasks_app.ledger.pruning import among, these
from tasks_app.ledger.records import ENDED, Doorbell, Ended
from tasks_app.ledger.settling import settle


class CancelAnswer(Enum):
    """What a cancel achieved."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"


def cancel(
    run_ids: Sequence[int], actor: str, reason: str = "cancelled"
) -> dict[int, CancelAnswer]:
    """QUEUED -> CANCELLED; for a RUNNING run, flag it for its worker.

    The worker is rung for, learns of the flag with its next heartbeat at the latest,
    sends SIGTERM, and finishes the run; if the run completes first, completion wins.
    With a root run goes what has been created below it, even if the root itself has
    ended; what its workflow would create later is skipped (`ledger.downstream`). A run
    that is missing from the answer had reached a terminal state (or does not exist).
    """
    with transaction.atomic(savepoint=False):
        first = _stop(run_ids, reason)
        roots = _lock_roots(run_ids)
        # What was created below these roots before their rows were ours.
        rows = {row[0]: row for row in [*first, *_stop(roots, reason)]}
        _mark({row[4] for row in rows.values()} & set(roots) - set(rows))
        record(_event(row, actor, reason) for row in rows.values())
        settle([Ended.of(row) for row in rows.values() if _is_done(row)])
        announce(_bells(rows.values()))
    return {
        run_id: CancelAnswer.CANCELLED if _is_done(row) else CancelAnswer.REQUESTED
        for run_id, row in rows.items()
    }


def _bells(rows: Iterable[Sequence[Any]]) -> list[Doorbell]:
    """One for each worker that has something to stop."""
    workers = {row[-1] for row in rows if not _is_done(row)}
    return [Doorbell("", "", worker_id) for worker_id in sorted(workers)]


def _is_done(row: Sequence[Any]) -> bool:
    return bool(row[2] == RunStatus.CANCELLED)


def _event(row: Sequence[Any], actor: str, reason: str) -> Event:
    kind = EventKind.FINISHED if _is_done(row) else EventKind.CANCEL_REQUESTED
    run_id, attempt, status = row[:3]
    return Event(run_id, kind, attempt, status, actor, {"reason": reason})


def _stop(run_ids: Sequence[int], reason: str) -> list[tuple[Any, ...]]:
    """The compare-and-set of `cancel`, of these runs and all below them.

    Locked from the newest to the oldest: an end locks its run before its root. Each
    list is made once: on a table that PostgreSQL has not analysed it would be parsed
    anew for each row, which for 1,000 runs took minutes.
    """
    if not run_ids:
        return []
    sql, recent = dialect(), among(run_ids)
    return fetch(
        f"""
        WITH wanted AS MATERIALIZED ({sql.ids()}), found AS MATERIALIZED (
            SELECT id FROM tasks_app_taskrun
            WHERE id IN (SELECT value FROM wanted)
            AND status IN ('queued', 'running') {these(run_ids)}
            UNION ALL
            SELECT id FROM tasks_app_taskrun
            WHERE root_id {sql.one_of("SELECT value FROM wanted")}
            AND status IN ('queued', 'running') {recent}
        ), locked AS MATERIALIZED (
            SELECT r.id FROM tasks_app_taskrun r
            WHERE r.id {sql.one_of("SELECT id FROM found")} {among(run_ids, "r.id")}
            ORDER BY r.id DESC {sql.lock})
        UPDATE tasks_app_taskrun SET
            status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END,
            completed_at = CASE status WHEN 'queued' THEN {sql.now} END,
            reason = CASE status WHEN 'queued' THEN %s ELSE reason END,
            cancel_requested_at = COALESCE(cancel_requested_at, {sql.now})
        WHERE id {sql.one_of("SELECT id FROM locked")}
        AND status IN ('queued', 'running') {recent}
        RETURNING {ENDED}, worker_id
        """,
        as_json(run_ids),
        reason,
    )


def _lock_roots(run_ids: Sequence[int]) -> list[int]:
    """Those of the runs that are roots; no end below them goes on meanwhile."""
    sql = dialect()
    rows = fetch(
        f"""
        SELECT id FROM tasks_app_taskrun
        WHERE id IN ({sql.ids()}) AND root_id IS NULL {these(run_ids)}
        ORDER BY id DESC {sql.lock}
        """,
        as_json(run_ids),
    )
    return [row[0] for row in rows]


def _mark(roots: Iterable[int]) -> None:
    """Note on roots that have ended that their workflow is cancelled."""
    ids = sorted(roots)
    if ids:
        sql = dialect()
        fetch(
            f"""
            UPDATE tasks_app_taskrun
            SET cancel_requested_at = COALESCE(cancel_requested_at, {sql.now})
            WHERE id IN ({sql.ids()}) {these(ids)}
            """,
            as_json(ids),
        )
