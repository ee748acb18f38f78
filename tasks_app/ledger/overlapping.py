"""What a task's policies make of a run that is about to be created."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from tasks_app.choices import Overlap, Placement, RunStatus, Trigger
from tasks_app.ledger import fleet
from tasks_app.ledger.dialects import as_json, database_now, dialect, fetch
from tasks_app.ledger.plans import fetch_planned
from tasks_app.ledger.pruning import unfinished
from tasks_app.ledger.records import NewRun
from tasks_app.rules.placement import WorkerView, can_take, wish, worker_lane

WISH_SECONDS = 5.0
"""How long a run waits for the worker that should have it, before any may take it."""
NO_WORKER = "no online worker serves the queue"


@dataclass(frozen=True, slots=True)
class Policy:
    """What of a task decides about a new run; `queued` counts up to `max_queued`."""

    task_id: int
    overlap: str
    max_concurrency: int | None
    max_queued: int
    placement: str
    match: str
    queue: str
    queued: int


@dataclass(frozen=True, slots=True)
class Decided:
    """The runs as they are to be inserted, and by task those that give way to them."""

    runs: list[NewRun]
    replaced: dict[int, list[int]] = field(default_factory=dict)


def decide(runs: Sequence[NewRun], known: Sequence[Policy] = ()) -> Decided:
    """Apply cap, overlap policy and placement to new runs, in their order. `known`: the
    policies of all their tasks, where the transaction has read them already.

    The row of a task whose overlap policy counts runs stays locked until the
    transaction ends: two fires at a time do not both find themselves alone.
    """
    task_ids = sorted({run.task_id for run in runs if run.status == RunStatus.QUEUED})
    if not task_ids:
        return Decided(list(runs))
    policies = {policy.task_id: policy for policy in known or _policies(task_ids)}
    counting = [
        policy.task_id
        for policy in policies.values()
        if policy.overlap in {Overlap.SKIP, Overlap.REPLACE}
    ]
    coming = Counter(
        run.task_id
        for run in runs
        if run.status == RunStatus.QUEUED and run.trigger != Trigger.BACKFILL
    )
    state = _State(policies, _unfinished(counting) if counting else {}, coming)
    decided = [
        placed
        for run in runs
        for placed in (
            state.place(state.decide(run)) if run.status == RunStatus.QUEUED else [run]
        )
    ]
    return Decided(decided, state.replaced)


class _State:
    """The tasks' counts, moved on by each run that is decided about."""

    def __init__(
        self,
        policies: dict[int, Policy],
        unfinished: dict[int, list[int]],
        coming: Counter[int],
    ) -> None:
        self.replaced: dict[int, list[int]] = defaultdict(list)
        self._policies = policies
        self._unfinished = unfinished
        self._coming = coming
        self._new: dict[int, int] = defaultdict(int)
        self._workers: list[WorkerView] | None = None
        self._wished: dict[int, int] = defaultdict(int)

    def decide(self, run: NewRun) -> NewRun:
        policy = self._policies[run.task_id]
        if policy.queued + self._new[run.task_id] >= policy.max_queued:
            return _skipped(
                run, f"{policy.max_queued} runs of the task wait already (max_queued)"
            )
        # A backfill is asked for fire by fire: its runs wait for each other.
        if policy.overlap != Overlap.QUEUE and run.trigger != Trigger.BACKFILL:
            refusal = self._overlap(policy)
            if refusal:
                return _skipped(run, refusal)
        self._new[run.task_id] += 1
        return run

    def _overlap(self, policy: Policy) -> str:
        """The reason to skip the run; makes room where the policy is to replace."""
        others = self._unfinished.get(policy.task_id, [])
        most = policy.max_concurrency or 1
        over = len(others) + self._new[policy.task_id] - most + 1
        self._coming[policy.task_id] -= 1
        if policy.overlap == Overlap.SKIP and over > 0:
            of = f"run {others[0]}" if others else "another fire of the same time"
            return f"overlap: {of} has not ended (policy skip)"
        if policy.overlap == Overlap.REPLACE and self._coming[policy.task_id] >= most:
            return "overlap: a newer fire replaces it (policy replace)"
        if policy.overlap == Overlap.REPLACE and over > 0:
            self.replaced[policy.task_id] += others[:over]
            del others[:over]
        return ""

    def place(self, run: NewRun) -> Iterator[NewRun]:
        """The run with its wish for a worker, or one run for each worker."""
        policy = self._policies[run.task_id]
        if run.status != RunStatus.QUEUED or run.lane:
            yield run
        elif policy.placement == Placement.BROADCAST:
            yield from self._broadcast(run, policy)
        elif policy.placement in {Placement.LEAST_LOADED, Placement.SAME_WORKER}:
            yield _wishing(run, self._wish(policy))
        else:
            yield run

    def _broadcast(self, run: NewRun, policy: Policy) -> Iterator[NewRun]:
        able = self._able(policy)
        if not able:
            yield _skipped(run, f"broadcast: {NO_WORKER}")
        for index, worker in enumerate(able):
            yield dataclasses.replace(
                run,
                lane=worker_lane(worker.name),
                shard_index=index,
                shard_total=len(able),
            )

    def _able(self, policy: Policy) -> list[WorkerView]:
        if self._workers is None:
            self._workers = fleet.workers()
        return [
            worker
            for worker in self._workers
            if not can_take(worker, policy.queue, policy.match)
        ]

    def _wish(self, policy: Policy) -> int | None:
        is_same = policy.placement == Placement.SAME_WORKER
        able = [
            dataclasses.replace(w, wanted=w.wanted + self._wished[w.id])
            for w in self._able(policy)
        ]
        best = wish(
            "same_worker" if is_same else "least_loaded",
            able,
            fleet.last_worker(policy.task_id) if is_same else None,
        )
        if best is None:
            return None
        self._wished[best.id] += 1
        return best.id


def _wishing(run: NewRun, worker_id: int | None) -> NewRun:
    """The run with a wish, which counts from when it is due."""
    if worker_id is None:
        return run
    seconds = WISH_SECONDS
    if run.due_at is not None:
        seconds += max(0.0, (run.due_at - database_now()).total_seconds())
    return dataclasses.replace(run, wanted_worker_id=worker_id, wish_seconds=seconds)


def _skipped(run: NewRun, reason: str) -> NewRun:
    return dataclasses.replace(run, status=RunStatus.SKIPPED, reason=reason)


def _policies(task_ids: Sequence[int]) -> list[Policy]:
    rows = fetch_planned(
        f"""
        WITH t AS MATERIALIZED (
            SELECT id, overlap, max_concurrency, max_queued, placement, match, queue
            FROM tasks_app_task WHERE id {dialect().one_of(dialect().ids())})
        SELECT {policy_columns()} FROM t
        """,
        as_json(task_ids),
    )
    return [Policy(*row) for row in rows]


def policy_columns() -> str:
    """The columns of a `Policy`, over a CTE `t` of tasks."""
    cap = f"COALESCE(t.max_queued, {settings.MAX_QUEUED_RUNS:d})"
    # The limit is no column, which SQLite does not take: the largest cap of them all.
    return f"""t.id, t.overlap, t.max_concurrency, {cap}, t.placement, t.match, t.queue,
        (SELECT count(*) FROM (
            SELECT 1 FROM tasks_app_taskrun r
            WHERE r.task_id = t.id AND r.status = 'queued' {unfinished("r.id")}
            LIMIT (SELECT MAX({cap}) FROM t)) q)"""


def _unfinished(task_ids: Sequence[int]) -> dict[int, list[int]]:
    """The unfinished runs of these tasks, the oldest first; locks the tasks' rows."""
    sql = dialect()
    if sql.lock_task:
        fetch(
            f"SELECT t.id FROM tasks_app_task t WHERE t.id IN ({sql.ids()})"
            f" ORDER BY t.id {sql.lock_task}",
            as_json(task_ids),
        )
    found: dict[int, list[int]] = {task_id: [] for task_id in task_ids}
    rows: list[tuple[Any, ...]] = fetch(
        f"""
        SELECT task_id, id FROM tasks_app_taskrun
        WHERE task_id IN ({sql.ids()}) AND status = 'queued'
        AND cancel_requested_at IS NULL
        UNION ALL
        SELECT task_id, id FROM tasks_app_taskrun
        WHERE task_id IN ({sql.ids()}) AND admission = 'admitted'
        AND status = 'running' AND cancel_requested_at IS NULL
        ORDER BY id
        """,
        as_json(task_ids),
        as_json(task_ids),
    )
    for task_id, run_id in rows:
        found[task_id].append(run_id)
    return found


def replace(run_ids: Sequence[int], by: int) -> None:
    """Cancel the runs that give way to a new one (overlap policy replace)."""
    # Here, for a cancel settles what waits below, which creates runs.
    from tasks_app.ledger.cancelling import cancel  # noqa: PLC0415

    cancel(run_ids, "overlap", f"replaced by run {by}")
