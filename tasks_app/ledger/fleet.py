"""The workers, as placement sees them.

Their table belongs to workers_app; it is named here in SQL, as in the heartbeat, for
the ledger is what brings runs and workers together.
"""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings

from tasks_app.ledger.dialects import dialect, fetch
from tasks_app.ledger.eligibility import NOT_HELD, QUEUED
from tasks_app.ledger.pruning import unfinished
from tasks_app.rules.match import WORKER_PREFIX
from tasks_app.rules.placement import WorkerView, worker_lane


def workers(*, missed_seconds: float = 0) -> list[WorkerView]:
    """Every worker that is known, with the runs that it holds and is wanted for now.

    One that has gone offline counts as online for `missed_seconds` more.
    """
    now, recent = dialect().now, unfinished()
    rows = fetch(
        f"""
        SELECT w.id, w.name, w.queues, w.tags, w.max_tasks, w.is_draining,
            COALESCE(h.runs, 0), COALESCE(q.runs, 0),
            w.status <> 'offline' OR w.last_heartbeat > {dialect().later("%s")}
        FROM workers_app_workerinfo w
        LEFT JOIN (SELECT worker_id, count(*) AS runs FROM tasks_app_taskrun
            WHERE status = 'running' {recent}
            GROUP BY worker_id) h ON h.worker_id = w.id
        LEFT JOIN (SELECT wanted_worker_id, count(*) AS runs FROM tasks_app_taskrun
            WHERE {QUEUED} AND wanted_worker_id IS NOT NULL
            AND wanted_until > {now} {recent}
            GROUP BY wanted_worker_id) q ON q.wanted_worker_id = w.id
        ORDER BY w.name
        """,
        -missed_seconds,
    )
    return [_view(row) for row in rows]


def _view(row: tuple[Any, ...]) -> WorkerView:
    worker_id, name, queues, tags, max_tasks, is_draining = row[:6]
    return WorkerView(
        id=worker_id,
        name=name,
        queues=frozenset(_list(queues)),
        tags=frozenset(_list(tags)),
        running=row[6],
        wanted=row[7],
        max_tasks=max_tasks,
        is_draining=bool(is_draining),
        is_online=bool(row[8]),
    )


def _list(value: Any) -> list[str]:
    """A JSON column read by a raw statement is text."""
    return list(json.loads(value) if isinstance(value, str) else value)


def last_worker(task_id: int) -> int | None:
    """The worker of the task's newest run that has started."""
    rows = fetch(
        """
        SELECT worker_id FROM tasks_app_taskrun
        WHERE task_id = %s AND worker_id IS NOT NULL ORDER BY id DESC LIMIT 1
        """,
        task_id,
    )
    return rows[0][0] if rows else None


def waiting_lanes() -> list[str]:
    """The lanes, but the common one, in which runs wait: stepped along their index,
    so that a backlog costs no more than one run."""
    waits = f"{QUEUED} AND NOT (lane = '') {unfinished()}"
    rows = fetch(
        f"""
        WITH RECURSIVE waiting(lane) AS (
            SELECT MIN(lane) FROM tasks_app_taskrun WHERE {waits}
            UNION ALL
            SELECT (SELECT MIN(r.lane) FROM tasks_app_taskrun r
                WHERE {waits} AND r.lane > waiting.lane)
            FROM waiting WHERE waiting.lane IS NOT NULL)
        SELECT lane FROM waiting WHERE lane IS NOT NULL
        """
    )
    return [row[0] for row in rows]


def waiting_queues() -> list[tuple[str, str]]:
    """Each queue and lane in which runs wait that are not held, stepped likewise."""
    runs = f"FROM tasks_app_taskrun r WHERE {QUEUED} AND {NOT_HELD} {unfinished()}"
    rows = fetch(
        f"""
        WITH RECURSIVE queues(queue) AS (
            SELECT MIN(r.queue) {runs}
            UNION ALL
            SELECT (SELECT MIN(r.queue) {runs} AND r.queue > queues.queue)
            FROM queues WHERE queues.queue IS NOT NULL),
        waiting(queue, lane) AS (
            SELECT queues.queue,
                (SELECT MIN(r.lane) {runs} AND r.queue = queues.queue)
            FROM queues WHERE queues.queue IS NOT NULL
            UNION ALL
            SELECT waiting.queue, (SELECT MIN(r.lane) {runs}
                AND r.queue = waiting.queue AND r.lane > waiting.lane)
            FROM waiting WHERE waiting.lane IS NOT NULL)
        SELECT queue, lane FROM waiting WHERE lane IS NOT NULL
        """
    )
    return [(queue, lane) for queue, lane in rows]


def gone_worker_lanes() -> list[str]:
    """The lanes in which runs wait for a worker that has been offline for a lease, or
    that nobody knows."""
    lanes = [lane for lane in waiting_lanes() if lane.startswith(WORKER_PREFIX)]
    if not lanes:
        return []
    rows = fetch(
        "SELECT name FROM workers_app_workerinfo WHERE status <> 'offline'"
        f" OR last_heartbeat > {dialect().later('%s')}",
        -settings.LEASE_SECONDS,
    )
    there = {worker_lane(name) for (name,) in rows}
    return [lane for lane in lanes if lane not in there]
