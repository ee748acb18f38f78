"""How many of a task's waiting runs may go on: the one place where limits decide.

A run of a task with a limit is created held. It is admitted, and counted in from
then on, when there is room: as it is created, when another one ends, and at beat's
tick. All of it under the task's row lock, so that no two callers fill one room.
Claims pass over held runs, and need to know of no limit but the queue's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks_app.choices import BreakerState
from tasks_app.ledger.announcing import announce
from tasks_app.ledger.dialects import as_json, dialect, fetch
from tasks_app.ledger.eligibility import COUNTED_IN, HELD, QUEUED
from tasks_app.ledger.pruning import unfinished
from tasks_app.ledger.records import Doorbell

MAX_ADMITTED = 1000
"""Runs of one task that are admitted at a time; beat's next tick goes on."""
MAX_TASKS = 100
"""Tasks that one tick of beat looks after."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One bound on runs: how much of it is used, out of how much. A rate counts the
    starts of its `scope` (see RateStart) in any `seconds`."""

    name: str
    used: int
    allowed: int
    scope: str = ""
    seconds: int = 0

    @property
    def room(self) -> int:
        return max(0, self.allowed - self.used)


def limits(task_id: int) -> list[Limit]:
    """The limits that hold a task's runs back, with their live numbers."""
    (row,) = _limit_rows([task_id], lock="")
    return _limits(row)


def admit(task_ids: Iterable[int]) -> int:
    """HELD -> ADMITTED: as many queued runs of each task as its limits have room for.

    By priority, then by the time that they are due. Returns how many were admitted.
    """
    ids = sorted(set(task_ids))
    if not ids:
        return 0
    lock = dialect().lock_task
    return sum(_admit(row) for row in _limit_rows(ids, lock))


def admit_waiting() -> int:
    """Admit whatever waits and has room: what beat does at each tick, for rooms that
    time alone makes, and for whatever an earlier call has left."""
    return admit(_tasks_with_room())


def _limit_rows(task_ids: Sequence[int], lock: str) -> list[tuple[Any, ...]]:
    order = f"ORDER BY t.id {lock}"
    return fetch(
        f"""
        SELECT t.id, t.project_id, t.max_concurrency, t.rate_limit_runs,
            t.rate_limit_seconds, p.rate_limit_runs, p.rate_limit_seconds, t.target
        FROM tasks_app_task t JOIN tasks_app_project p ON p.id = t.project_id
        WHERE t.id IN ({dialect().ids()}) {order}
        """,
        as_json(task_ids),
    )


def _limits(row: tuple[Any, ...]) -> list[Limit]:
    task_id, project_id, concurrency, runs, seconds, all_runs, all_seconds, target = row
    found = []
    if concurrency is not None:
        found.append(Limit("max_concurrency", _counted_in(task_id), concurrency))
    if runs is not None:
        found.append(_rate("rate_limit", runs, f"task:{task_id}", seconds))
    if all_runs is not None:
        scope = f"project:{project_id}"
        found.append(_rate("project_rate_limit", all_runs, scope, all_seconds))
    if target and _is_open(target):
        found.append(Limit("circuit_breaker", 0, 0))
    return found


def _rate(name: str, runs: int, scope: str, seconds: int) -> Limit:
    return Limit(name, starts_within(scope, seconds), runs, scope, seconds)


def _counted_in(task_id: int) -> int:
    ((count,),) = fetch(
        f"SELECT count(*) FROM tasks_app_taskrun WHERE task_id = %s AND {COUNTED_IN}",
        task_id,
    )
    return int(count)


def starts_within(scope: str, seconds: float) -> int:
    """How many starts a rate limit has counted in the last `seconds`."""
    ((count,),) = fetch(
        "SELECT count(*) FROM tasks_app_ratestart"
        f" WHERE scope = %s AND at > {dialect().later('%s')}",
        scope,
        -seconds,
    )
    return int(count)


def _is_open(target: str) -> bool:
    return bool(
        fetch(
            "SELECT 1 FROM tasks_app_breaker WHERE target = %s AND state <> %s",
            target,
            BreakerState.CLOSED,
        )
    )


def _admit(row: tuple[Any, ...]) -> int:
    task_id, project_id, runs, all_runs = row[0], row[1], row[3], row[5]
    if all_runs is not None:  # tasks of one project share this room
        lock = dialect().lock
        fetch(f"SELECT id FROM tasks_app_project WHERE id = %s {lock}", project_id)
    room = min([MAX_ADMITTED, *(limit.room for limit in _limits(row))])
    if not room:
        return 0
    now, recent = dialect().now, unfinished()
    admitted = fetch(
        f"""
        UPDATE tasks_app_taskrun SET admission = 'admitted'
        WHERE id IN (
            SELECT id FROM tasks_app_taskrun
            WHERE task_id = %s AND {QUEUED} AND {HELD} AND due_at <= {now}
            {recent} ORDER BY priority DESC, due_at, id LIMIT %s)
        AND {QUEUED} {recent}
        RETURNING queue, lane
        """,
        task_id,
        room,
    )
    if runs is not None:
        _count_starts(f"task:{task_id}", len(admitted))
    if all_runs is not None:
        _count_starts(f"project:{project_id}", len(admitted))
    announce([Doorbell(queue, lane) for queue, lane in admitted])
    return len(admitted)


def _count_starts(scope: str, count: int) -> None:
    if count:
        sql = dialect()
        fetch(
            f"""
            INSERT INTO tasks_app_ratestart (scope, at)
            SELECT scope, {sql.now} FROM {sql.rows({"scope": "text"})}
            """,
            as_json([{"scope": scope}] * count),
        )


def _tasks_with_room() -> list[int]:
    """Tasks that have held runs that are due, and seem to have room for one.

    Steps from task to task along the index of held runs: a backlog costs no more
    than one run.
    """
    sql, recent = dialect(), unfinished("r.id")
    rows = fetch(
        f"""
        WITH RECURSIVE held(task_id) AS (
            SELECT MIN(r.task_id) FROM tasks_app_taskrun r
            WHERE r.{QUEUED} AND r.{HELD} {recent}
            UNION ALL
            SELECT (SELECT MIN(r.task_id) FROM tasks_app_taskrun r
                WHERE r.{QUEUED} AND r.{HELD} AND r.task_id > held.task_id {recent})
            FROM held WHERE held.task_id IS NOT NULL)
        SELECT t.id FROM held JOIN tasks_app_task t ON t.id = held.task_id
        WHERE (t.max_concurrency IS NULL OR t.max_concurrency > (
            SELECT count(*) FROM tasks_app_taskrun r
            WHERE r.task_id = t.id AND {COUNTED_IN} {recent}))
        AND EXISTS (SELECT 1 FROM tasks_app_taskrun r WHERE r.task_id = t.id
            AND r.{QUEUED} AND r.{HELD} AND r.due_at <= {sql.now} {recent})
        ORDER BY t.id LIMIT %s
        """,
        MAX_TASKS,
    )
    return [row[0] for row in rows]


def forget_starts() -> None:
    """Delete the counted starts that no span reaches any more (a day, the longest)."""
    fetch(f"DELETE FROM tasks_app_ratestart WHERE at < {dialect().later('-86400')}")


def hold(task_ids: Sequence[int]) -> None:
    """ADMITTED or free -> HELD for runs that have not started, and admit anew: what a
    change of a task's limits asks for. Runs that started without limit are counted in.
    """
    fetch(
        f"""
        UPDATE tasks_app_taskrun
        SET admission = CASE WHEN {QUEUED} THEN 'held' ELSE 'admitted' END
        WHERE task_id IN ({dialect().ids()})
        AND ({QUEUED} OR status = 'running' AND admission = 'free')
        """,
        as_json(task_ids),
    )
    admit(task_ids)


def queue_rooms(queues: Sequence[str]) -> dict[str, int]:
    """The queues among these that have a limit, with how many runs may start now.

    Their rows stay locked until the transaction ends, so that two claims do not fill
    the same room.
    """
    return {limit.name: limit.room for limit in queue_limits(queues, dialect().lock)}


NO_LIMIT = """NOT EXISTS (SELECT 1 FROM tasks_app_queue q
    WHERE q.name = %s AND q.max_concurrency IS NOT NULL)"""
"""The condition that a queue, by its name, has no limit."""


def has_limits(queues: Sequence[str]) -> bool:
    """Whether any of these queues has a limit."""
    marks = ", ".join(["%s"] * len(queues))
    return bool(
        fetch(
            "SELECT 1 FROM tasks_app_queue"
            f" WHERE max_concurrency IS NOT NULL AND name IN ({marks}) LIMIT 1",
            *queues,
        )
    )


def queue_limits(queues: Sequence[str], lock: str = "") -> list[Limit]:
    """The limits that these queues have, by the queues' names."""
    marks = ", ".join(["%s"] * len(queues))
    limited = fetch(
        f"""
        SELECT name, max_concurrency FROM tasks_app_queue
        WHERE max_concurrency IS NOT NULL AND name IN ({marks})
        ORDER BY name {lock}
        """,
        *queues,
    )
    return [Limit(name, _running_in(name), most) for name, most in limited]


def _running_in(queue: str) -> int:
    ((count,),) = fetch(
        "SELECT count(*) FROM tasks_app_taskrun"
        " WHERE status = 'running' AND queue = %s",
        queue,
    )
    return int(count)
