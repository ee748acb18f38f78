"""Which queued runs may be claimed: the conditions of a claim, each by its name.

`claim` asks for all of them at once, an explanation for each on its own, so that
what people are told is what decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks_app.ledger.dialects import as_json, dialect, fetch
from tasks_app.ledger.pruning import unfinished

QUEUED = "status = 'queued'"
"""Literal, as in the conditions of the partial indexes: SQLite proves nothing about
parameters, and would not use them."""
NOT_HELD = "NOT (admission = 'held')"
HELD = "admission = 'held'"
COUNTED_IN = "admission = 'admitted' AND status IN ('queued', 'running')"


MAX_AHEAD = 1000
"""As far as runs that are ahead of another are counted."""
_OF_RUN = "(SELECT {} FROM tasks_app_taskrun WHERE id = %s)"


def conditions(worker_id: str = "%s") -> dict[str, str]:
    """SQL conditions over tasks_app_taskrun; `wish` holds for the worker of that id."""
    now = dialect().now
    return {
        "queued": QUEUED,
        "admitted": NOT_HELD,
        "due": f"due_at <= {now}",
        "start_deadline": f"(start_deadline_at IS NULL OR start_deadline_at > {now})",
        "wish": f"(wanted_worker_id IS NULL OR wanted_worker_id = {worker_id}"
        f" OR wanted_until <= {now})",
    }


def waits(queues: Sequence[str], worker_id: int) -> bool:
    """Whether a run waits in these queues that a claim by this worker may find: what
    an idle worker asks for each second, and so one walk along an index.

    Of lanes and of the queues' limits only the claim knows.
    """
    marks = ", ".join(["%s"] * len(queues))
    may_start = " AND ".join(conditions().values())
    ((found,),) = fetch(
        f"""
        SELECT EXISTS (SELECT 1 FROM tasks_app_taskrun
            WHERE queue IN ({marks}) AND {may_start} {unfinished()})
        """,
        *queues,
        worker_id,
    )
    return bool(found)


def standing(run_id: int, worker_ids: Iterable[int]) -> dict[int, dict[str, bool]]:
    """Which of the conditions a run meets now, for each of these workers.

    Empty if there is no such run. Every one of them met: a claim by this worker takes
    it, if its queue has room, and the worker serves its queue and lane.
    """
    asked = conditions("w.value")
    columns = ", ".join(f"({condition})" for condition in asked.values())
    rows = fetch(
        f"""
        SELECT w.value, {columns} FROM tasks_app_taskrun
        CROSS JOIN ({dialect().ids()}) AS w WHERE id = %s
        """,
        as_json(worker_ids),
        run_id,
    )
    return {row[0]: dict(zip(asked, map(bool, row[1:]), strict=True)) for row in rows}


def ahead_in_lane(run_id: int, queue: str, lane: str) -> int:
    """How many runs of its queue and lane are claimed before this one, up to
    MAX_AHEAD + 1."""
    where = f"queue = %s AND lane = %s AND {NOT_HELD}"
    return _ahead(run_id, where, queue, lane)


def ahead_in_task(run_id: int, task_id: int) -> int:
    """How many runs of its task are admitted before this held one, likewise."""
    return _ahead(run_id, f"task_id = %s AND {HELD}", task_id)


def _ahead(run_id: int, where: str, *params: object) -> int:
    """Counted by priority first: each part is a walk along an index, from its start."""
    asked = conditions()
    waits = f"{asked['queued']} AND {asked['due']} AND {asked['start_deadline']}"
    waits += f" {unfinished()}"
    count = 0
    for before in (
        f"priority > {_OF_RUN.format('priority')}",
        f"priority = {_OF_RUN.format('priority')}"
        f" AND (due_at, id) < ({_OF_RUN.format('due_at')}, {_OF_RUN.format('id')})",
    ):
        runs = f"SELECT 1 FROM tasks_app_taskrun WHERE {where} AND {waits} AND {before}"
        ids = [run_id] * before.count("%s")
        (found,) = fetch(
            f"SELECT count(*) FROM ({runs} LIMIT {MAX_AHEAD + 1}) AS r", *params, *ids
        )
        count += found[0]
    return min(count, MAX_AHEAD + 1)
