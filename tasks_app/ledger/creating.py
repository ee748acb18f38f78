"""Runs come into being."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction

from tasks_app.choices import Admission, RunStatus
from tasks_app.ledger import tallies
from tasks_app.ledger.admission import admit
from tasks_app.ledger.announcing import announce
from tasks_app.ledger.dialects import as_json, as_time, dialect, fetch
from tasks_app.ledger.events import Change, Statement, changed, event
from tasks_app.ledger.overlapping import Policy, decide, replace
from tasks_app.ledger.pruning import created, these
from tasks_app.ledger.records import Doorbell, NewRun
from tasks_app.models import TaskRun
from tasks_app.rules.match import WORKER_PREFIX

_NEW_RUN = {
    "task_id": "int",
    "version_id": "int",
    "trigger": "text",
    "queue": "text",
    "status": "text",
    "scheduled_for": "time",
    "due_at": "time",
    "reason": "text",
    "triggered_by": "text",
    "trigger_reason": "text",
    "params": "json",
    "result": "json",
    "start_deadline_seconds": "float",
    "root_id": "int",
    "parent_id": "int",
    "rerun_of_id": "int",
    "lane": "text",
    "shard_index": "int",
    "shard_total": "int",
    "wanted_worker_id": "int",
    "wish_seconds": "float",
}

_IS_LIMITED = """(t.max_concurrency IS NOT NULL OR t.rate_limit_runs IS NOT NULL
    OR p.rate_limit_runs IS NOT NULL OR EXISTS (SELECT 1 FROM tasks_app_breaker b
        WHERE b.target = t.target AND t.target <> '' AND b.state <> 'closed'))"""


_DAY = """COALESCE(CASE "trigger" WHEN 'schedule' THEN scheduled_for END, n.at)"""
"""When a run that has no root counts as of: a fire's key is unique because the fire is
always of the same day, whoever plans it and whenever."""


class _Created(NamedTuple):
    """What is read of a new run, by the names of its columns; `wanted_lane` is the
    lane of the worker that should have it. Times are as the database gives them."""

    id: int
    status: str
    task_id: int
    admission: str
    queue: str
    lane: str
    scheduled_for: Any
    due_at: Any
    created_at: Any
    completed_at: Any
    reason: str
    triggered_by: str
    trigger_reason: str
    wanted_lane: str | None


_KINDS = {
    "id": "int", "status": "text", "task_id": "int", "admission": "text",
    "queue": "text", "lane": "text", "scheduled_for": "time", "due_at": "time",
    "created_at": "time", "completed_at": "time", "reason": "text",
    "triggered_by": "text", "trigger_reason": "text", "wanted_lane": "text",
}  # fmt: skip
"""The columns of `_Created` in their order, with their kinds."""


def create(
    runs: Sequence[NewRun],
    known: Sequence[Policy] = (),
    beside: Statement | None = None,
) -> list[int]:
    """Insert runs, queued or already skipped, and tell that queued ones are ready.

    A run whose key exists already (a fire of a task; a task under one root run) is
    passed over: whoever inserted it first has accounted for it. What the task's
    overlap policy, its cap of queued runs, or the want of a worker forbids is born
    SKIPPED with the reason. `known`: as in `decide`. `beside`: as in `Change`; where
    there are no runs it is left to the caller.

    Returns:
        The ids of the runs that are new, by nominal time, task and shard.
    """
    return [row.id for row in _create(runs, known, beside)]


def create_one(new: NewRun) -> TaskRun:
    """`create` for one run whose key cannot exist yet, such as a trigger's.

    Returns:
        The run as it was born, without asking for it again: what a worker has made of
        it since is not in it. Of a broadcast, the first of its runs.
    """
    row, *_ = _create([new])
    moments: dict[str, datetime | None] = {
        name: as_time(getattr(row, name))
        for name in ("scheduled_for", "due_at", "created_at", "completed_at")
    }
    values = {
        **{name: getattr(new, name) for name in _AS_ASKED},
        **{name: getattr(row, name) for name in _AS_BORN},
        **moments,
        **dict.fromkeys(_EMPTY),
        "attempt": 0,
        "error": "",
        "log_truncated": False,
    }
    fields = [f.attname for f in TaskRun._meta.concrete_fields if f.attname in values]
    return TaskRun.from_db(connection.alias, fields, [values[name] for name in fields])


_AS_ASKED = ("version_id", "trigger", "params", "root_id", "parent_id", "rerun_of_id")
_AS_BORN = (
    "id",
    "status",
    "task_id",
    "admission",
    "queue",
    "lane",
    "reason",
    "triggered_by",
    "trigger_reason",
)
_EMPTY = ("worker_id", "started_at", "cancel_requested_at", "exit_code", "result")


def _create(
    runs: Sequence[NewRun],
    known: Sequence[Policy] = (),
    beside: Statement | None = None,
) -> list[_Created]:
    if not runs:
        return []
    with transaction.atomic(savepoint=False):
        decided = decide(runs, known)
        rows = _insert(decided.runs, beside)
        created([row.id for row in rows])
        tallies.add([row.id for row in rows if row.status == RunStatus.SKIPPED])
        if any(run.shard_index and not run.root_id for run in decided.runs):
            _gather([row.id for row in rows])
        newest = {row.task_id: row.id for row in rows if row.status == RunStatus.QUEUED}
        for task_id in sorted(decided.replaced.keys() & newest.keys()):
            replace(decided.replaced[task_id], by=newest[task_id])
        admit({row.task_id for row in rows if row.admission == Admission.HELD})
        announce(
            [
                Doorbell(row.queue, row.wanted_lane or row.lane)
                for row in rows
                if row.status == RunStatus.QUEUED
                and row.admission == Admission.FREE
                and row.due_at <= row.created_at
            ]
        )
    return rows


def _insert(runs: Sequence[NewRun], beside: Statement | None) -> list[_Created]:
    """The rows that are new, each with the event of its creation."""
    sql = dialect()
    statement = f"""
        WITH this AS MATERIALIZED (SELECT {sql.now} AS at)
        INSERT INTO tasks_app_taskrun (
            id, task_id, version_id, "trigger", queue, status, scheduled_for, reason,
            triggered_by, trigger_reason, params, result, start_deadline_at,
            root_id, parent_id, rerun_of_id, created_at, due_at, completed_at,
            priority, target, lane, admission, shard_index, shard_total,
            wanted_worker_id, wanted_until, attempt, error, log_truncated)
        SELECT
            {sql.new_run_id("root_id", _DAY)},
            task_id, version_id, "trigger", v.queue, v.status,
            COALESCE(scheduled_for, n.at), reason, triggered_by, trigger_reason,
            params, result, {sql.later("v.start_deadline_seconds")},
            root_id, parent_id, rerun_of_id, n.at, COALESCE(due_at, n.at),
            CASE WHEN v.status <> 'queued' THEN n.at END,
            t.priority, t.target,
            CASE WHEN v.lane <> '' THEN v.lane WHEN t.placement = 'worker'
                THEN 'worker:' || t.worker_name ELSE t.match END,
            CASE WHEN v.status = 'queued' AND {_IS_LIMITED}
                THEN 'held' ELSE 'free' END,
            shard_index, shard_total, wanted_worker_id,
            {sql.later("wish_seconds")},
            0, '', {sql.false}
        FROM {sql.rows(_NEW_RUN)}
        JOIN tasks_app_task t ON t.id = v.task_id
        JOIN tasks_app_project p ON p.id = t.project_id
        CROSS JOIN this AS n
        WHERE true
        ORDER BY v.scheduled_for, v.task_id, v.shard_index
        ON CONFLICT DO NOTHING
        RETURNING id, status, task_id, admission, queue, lane, scheduled_for, due_at,
            created_at, completed_at, reason, triggered_by, trigger_reason,
            (SELECT '{WORKER_PREFIX}' || w.name FROM workers_app_workerinfo w
                WHERE w.id = wanted_worker_id) AS wanted_lane
        """
    why = sql.json(reason="trigger_reason")
    rows = changed(
        Change(statement, [as_json(runs)], _KINDS, beside=beside),
        event(
            run_id="id",
            kind="'created'",
            attempt="0",
            status="status",
            actor="triggered_by",
            detail=f"CASE WHEN trigger_reason <> '' THEN {why} END",
        ),
    )
    return [_Created(*row) for row in rows]


def _gather(run_ids: Sequence[int]) -> None:
    """Make a broadcast one workflow: the first of its runs is the others' root."""
    ids = dialect().ids()
    fetch(
        f"""
        UPDATE tasks_app_taskrun SET root_id = (
            SELECT MIN(f.id) FROM tasks_app_taskrun f
            WHERE f.id IN ({ids}) AND f.shard_index = 0 {these(run_ids, "f.id")}
            AND f.task_id = tasks_app_taskrun.task_id
            AND f.scheduled_for = tasks_app_taskrun.scheduled_for)
        WHERE id IN ({ids}) AND shard_index > 0 AND root_id IS NULL {these(run_ids)}
        """,
        as_json(run_ids),
        as_json(run_ids),
    )
