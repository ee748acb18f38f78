"""What waits for a run: children are created in the transaction of its end.

A workflow is what is created below one root run, each task once. It is taken end by
end, however many end at a time, and in a fixed number of statements.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tasks_app.choices import RunStatus, TaskStatus, Trigger
from tasks_app.ledger.creating import create
from tasks_app.ledger.dialects import as_json, dialect, fetch
from tasks_app.ledger.pruning import among, these
from tasks_app.ledger.records import Ended, NewRun
from tasks_app.models import TaskRun
from tasks_app.rules.dependencies import (
    JoinDecision,
    Parent,
    TriggerRule,
    join_decision,
    status_of_shards,
)
from tasks_app.rules.params import PARENT_RESULTS, parent_results
from tasks_app.rules.states import TERMINAL

CANCELLED = "the workflow was cancelled"


@dataclass(frozen=True, slots=True)
class _Child:
    """A task that waits for others; `parents` are their names by their ids, that of
    another project's as project/name."""

    task_id: int
    status: str
    queue: str
    rule: TriggerRule
    start_deadline_seconds: int | None
    version_id: int
    parents: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Root:
    """A root run. `origin_id`: the root of the workflow that it is a part of again."""

    run_id: int
    params: dict[str, Any]
    is_cancelled: bool
    origin_id: int


@dataclass(frozen=True, slots=True)
class _Shard:
    """A run of a task under a root; of a broadcast there are several."""

    run_id: int
    status: str


@dataclass(frozen=True, slots=True)
class _Ready:
    """A child whose time has come, under one root, and the end that brought it."""

    root: _Root
    child: _Child
    end: Ended
    decision: JoinDecision
    parents: dict[int, list[_Shard]]


def release(ended: Iterable[Ended]) -> None:
    """Create the children that these ends make ready; skip those they rule out.

    A child that is skipped, or that its task's policies make a skipped one, is an end
    of its own and is handed on to its children. Concurrent ends under one root take
    turns on the root's row, so that the last of a join's parents sees all the others;
    the unique key (root, task, shard) lets one child through.
    """
    pending = [end for end in ended if end.is_parent]
    while pending:
        pending = _release_children(pending)


def _release_children(ended: Sequence[Ended]) -> list[Ended]:
    """Returns the children that were skipped: ends in their turn."""
    children = _children({end.task_id for end in ended})
    if not children:
        return []
    workflows = _Workflows(ended, children)
    ready = list(workflows.ready())
    results = _results(ready)
    created = create([_new_run(each, results) for each in ready])
    skipped = TaskRun.objects.filter(pk__in=created, status=RunStatus.SKIPPED)
    return [
        Ended(
            run.pk, run.task_id, cast("int", run.root_id), run.status, run.scheduled_for
        )
        for run in (skipped if created else ())
    ]


def _children(task_ids: Iterable[int]) -> dict[int, _Child]:
    """The children of these tasks, each with all its parents."""
    rows = fetch(
        f"""
        SELECT c.id, c.status, c.queue, c.trigger_rule, c.start_deadline_seconds, v.id,
            p.id, CASE WHEN p.project_id = c.project_id THEN p.name
                ELSE o.name || '/' || p.name END
        FROM tasks_app_task c
        JOIN tasks_app_taskversion v ON v.task_id = c.id AND v.number = c.version
        JOIN tasks_app_taskdependency e ON e.child_id = c.id
        JOIN tasks_app_task p ON p.id = e.parent_id
        JOIN tasks_app_project o ON o.id = p.project_id
        WHERE c.id IN (SELECT child_id FROM tasks_app_taskdependency
            WHERE parent_id IN ({dialect().ids()}))
        ORDER BY c.id, p.id
        """,
        as_json(sorted(task_ids)),
    )
    children: dict[int, _Child] = {}
    for *values, parent_id, parent_name in rows:
        child = children.setdefault(values[0], _Child(*values))
        child.parents[parent_id] = parent_name
    return children


class _Workflows:
    """How the workflows of some ends stand, read after their roots were locked."""

    def __init__(self, ended: Sequence[Ended], children: dict[int, _Child]) -> None:
        self._children = children
        by_parent: dict[int, list[int]] = defaultdict(list)
        for child in children.values():
            for parent_id in child.parents:
                by_parent[parent_id].append(child.task_id)
        # Of several ends that concern a child, a success is named as its parent.
        self._ends = {
            (end.root_id, child_id): end
            for end in sorted(ended, key=lambda end: end.status == RunStatus.SUCCEEDED)
            for child_id in by_parent[end.task_id]
        }
        self._roots = _take_turns({root_id for root_id, _ in self._ends})
        self._runs: dict[tuple[int, int], list[_Shard]] = defaultdict(list)
        self._sources: dict[int, set[int]] = defaultdict(set)
        self._read_runs()
        for end in ended:
            self._sources[end.root_id].add(end.task_id)
        self._coming = self._read_coming()
        self._elsewhere = self._read_elsewhere()

    def ready(self) -> Iterator[_Ready]:
        """The children to be created, to run or skipped."""
        for (root_id, child_id), end in self._ends.items():
            root, child = self._roots[root_id], self._children[child_id]
            if (root_id, child_id) in self._runs:
                continue  # an earlier end has brought it
            parents = self._parents(root, child)
            decision = self._decide(root, child, parents)
            if decision.action != "wait":
                yield _Ready(root, child, end, decision, parents)

    def _parents(self, root: _Root, child: _Child) -> dict[int, list[_Shard]]:
        """The runs of the child's parents that count here, by the parent's id.

        A parent with no run that nothing in this workflow leads to any more is not
        waited for.
        """
        parents = {}
        for task_id in child.parents:
            key = (root.run_id, task_id)
            if key in self._runs:
                parents[task_id] = self._runs[key]
            elif key in self._coming:
                parents[task_id] = []
            elif (root.origin_id, task_id) in self._elsewhere:
                parents[task_id] = self._elsewhere[root.origin_id, task_id]
        return parents

    def _decide(
        self, root: _Root, child: _Child, parents: Mapping[int, list[_Shard]]
    ) -> JoinDecision:
        if root.is_cancelled:
            return JoinDecision("skip", CANCELLED)
        states = {
            task_id: Parent(
                child.parents[task_id],
                status_of_shards([shard.status for shard in shards]),
            )
            for task_id, shards in parents.items()
        }
        decision = join_decision(child.rule, states)
        if decision.action == "wait":
            unfinished = [
                task_id
                for task_id, state in states.items()
                if state.status not in TERMINAL
            ]
            if any(self._is_here(root, task_id) for task_id in unfinished):
                return decision
            # Its end would not be told to this workflow.
            return JoinDecision(
                "skip", f"{decision.reason} in the workflow that this one repeats"
            )
        if child.status != TaskStatus.ACTIVE:
            return JoinDecision("skip", f"the task is {child.status}")
        return decision

    def _is_here(self, root: _Root, task_id: int) -> bool:
        key = (root.run_id, task_id)
        return key in self._runs or key in self._coming

    def _read_runs(self) -> None:
        tasks = {
            *self._children,
            *(
                task_id
                for child in self._children.values()
                for task_id in child.parents
            ),
        }
        ids = dialect().ids()
        roots = list(self._roots)
        wanted = f"(status IN ('queued', 'running') OR task_id IN ({ids}))"
        rows = fetch(
            f"""
            SELECT id AS root_id, task_id, status, id, shard_index
            FROM tasks_app_taskrun WHERE id IN ({ids}) AND {wanted} {these(roots)}
            UNION ALL
            SELECT root_id, task_id, status, id, shard_index
            FROM tasks_app_taskrun
            WHERE root_id {dialect().one_of(ids)} AND {wanted} {among(roots)}
            ORDER BY 5, 4
            """,
            *[as_json(roots), as_json(sorted(tasks))] * 2,
        )
        for root_id, task_id, status, run_id, _ in rows:
            if status not in TERMINAL:
                self._sources[root_id].add(task_id)
            if task_id in tasks:
                self._runs[root_id, task_id].append(_Shard(run_id, status))

    def _missing(self) -> set[tuple[int, int]]:
        """Parents without a run, by root and task."""
        return {
            (root_id, task_id)
            for root_id, child_id in self._ends
            for task_id in self._children[child_id].parents
            if (root_id, task_id) not in self._runs
        }

    def _read_coming(self) -> set[tuple[int, int]]:
        """Parents without a run that unfinished runs, or these ends, still lead to."""
        missing = self._missing()
        if not missing:
            return set()
        starts = {start for root_id, _ in missing for start in self._sources[root_id]}
        below = _below(starts, {task_id for _, task_id in missing})
        return {
            (root_id, task_id)
            for root_id, task_id in missing
            if any(start in below[task_id] for start in self._sources[root_id])
        }

    def _read_elsewhere(self) -> dict[tuple[int, int], list[_Shard]]:
        """The newest runs of the other parents in the workflow that a root repeats a
        part of, by that workflow's origin and the task."""
        wanted = {
            (self._roots[root_id].origin_id, task_id)
            for root_id, task_id in self._missing() - self._coming
            if self._roots[root_id].origin_id != root_id
        }
        return _newest(wanted) if wanted else {}


def _take_turns(root_ids: Iterable[int]) -> dict[int, _Root]:
    """Lock these roots, and the origins of those that repeat a part of a workflow.

    From the newest to the oldest, as everywhere: a workflow's runs are newer than
    its root.
    """
    rows = _lock(sorted(root_ids))
    origins = _origins([row[0] for row in rows if row[3]])
    if origins and dialect().lock:
        _lock(sorted(set(origins.values())))
    return {
        run_id: _Root(
            run_id,
            json.loads(params),
            is_cancelled=cancel_requested_at is not None,
            origin_id=origins.get(run_id, run_id),
        )
        for run_id, params, cancel_requested_at, _ in rows
    }


def _lock(run_ids: Sequence[int]) -> list[tuple[Any, ...]]:
    sql = dialect()
    return fetch(
        f"""
        SELECT id, params, cancel_requested_at, rerun_of_id FROM tasks_app_taskrun
        WHERE id IN ({sql.ids()}) {these(run_ids)} ORDER BY id DESC {sql.lock}
        """,
        as_json(run_ids),
    )


_CLIMB = """
    SELECT c.top, COALESCE(x.root_id, x.id) FROM climb c
    JOIN tasks_app_taskrun t ON t.id = c.at
    JOIN tasks_app_taskrun x ON x.id = t.rerun_of_id
    WHERE x.root_id IS NOT NULL OR x.rerun_of_id IS NOT NULL
    """
"""One step from a root to the root of the run that it repeats, unless it repeats a
workflow as a whole: then it is one of its own."""


def _origins(root_ids: Sequence[int]) -> dict[int, int]:
    """Where the reruns among these roots come from in the end, by the root."""
    if not root_ids:
        return {}
    rows = fetch(
        f"""
        WITH RECURSIVE climb(top, at) AS (
            SELECT id, id FROM tasks_app_taskrun WHERE id IN ({dialect().ids()})
            UNION {_CLIMB})
        SELECT top, MIN(at) FROM climb GROUP BY top
        """,
        as_json(root_ids),
    )
    return dict(rows)


def _newest(wanted: set[tuple[int, int]]) -> dict[tuple[int, int], list[_Shard]]:
    """The newest runs by a workflow's origin and the task, its reruns included."""
    origins = sorted({origin_id for origin_id, _ in wanted})
    ids = dialect().ids()
    rows = fetch(
        f"""
        WITH RECURSIVE candidate AS (
            SELECT r.id, r.task_id, r.status, top.id AS top
            FROM tasks_app_taskrun r
            JOIN tasks_app_taskrun top ON top.id = COALESCE(r.root_id, r.id)
            WHERE r.task_id IN ({ids}) AND r.id >= %s
            AND (top.rerun_of_id IS NOT NULL OR top.id IN ({ids}))),
        climb(top, at) AS (
            SELECT top, top FROM candidate
            UNION {_CLIMB}),
        origin AS (SELECT top, MIN(at) AS id FROM climb GROUP BY top)
        SELECT o.id, c.task_id, c.top, c.id, c.status
        FROM candidate c JOIN origin o ON o.top = c.top
        ORDER BY c.top, c.id
        """,
        as_json(sorted({task_id for _, task_id in wanted})),
        origins[0],
        as_json(origins),
    )
    newest: dict[tuple[int, int], tuple[int, list[_Shard]]] = {}
    for origin_id, task_id, top, run_id, status in rows:
        if (origin_id, task_id) in wanted:
            kept = newest.get((origin_id, task_id))
            shards = kept[1] if kept and kept[0] == top else []
            newest[origin_id, task_id] = top, [*shards, _Shard(run_id, status)]
    return {key: shards for key, (_, shards) in newest.items()}


def _below(starts: Iterable[int], tasks: Iterable[int]) -> dict[int, set[int]]:
    """Which of `starts` lead to each of `tasks`."""
    ids = dialect().ids()
    rows = fetch(
        f"""
        WITH RECURSIVE below(start, id) AS (
            SELECT parent_id, child_id FROM tasks_app_taskdependency
            WHERE parent_id IN ({ids})
            UNION
            SELECT b.start, e.child_id FROM tasks_app_taskdependency e
            JOIN below b ON b.id = e.parent_id)
        SELECT start, id FROM below WHERE id IN ({ids})
        """,
        as_json(sorted(starts)),
        as_json(sorted(tasks)),
    )
    below: dict[int, set[int]] = defaultdict(set)
    for start, task_id in rows:
        below[task_id].add(start)
    return below


def _results(ready: Sequence[_Ready]) -> dict[int, Any]:
    """The results of the parents of those that are to run, by the parent's run."""
    run_ids = {
        shard.run_id
        for each in ready
        if each.decision.action == "run"
        for shards in each.parents.values()
        for shard in shards
    }
    if not run_ids:
        return {}
    runs = TaskRun.objects.filter(pk__in=run_ids, result__isnull=False)
    return dict(runs.values_list("pk", "result"))


def _new_run(ready: _Ready, results: Mapping[int, Any]) -> NewRun:
    child, is_run = ready.child, ready.decision.action == "run"
    params = {
        name: value
        for name, value in ready.root.params.items()
        if name != PARENT_RESULTS
    }
    if is_run:
        params[PARENT_RESULTS] = parent_results(_by_name(ready, results))
    return NewRun(
        task_id=child.task_id,
        version_id=child.version_id,
        trigger=Trigger.DEPENDENCY,
        queue=child.queue,
        status=RunStatus.QUEUED if is_run else RunStatus.SKIPPED,
        scheduled_for=ready.end.scheduled_for,
        reason=ready.decision.reason,
        params=params,
        start_deadline_seconds=child.start_deadline_seconds if is_run else None,
        root_id=ready.root.run_id,
        parent_id=ready.end.run_id,
    )


def _by_name(ready: _Ready, results: Mapping[int, Any]) -> dict[str, Any]:
    """The results of the parents that ran to an end, by the parent's name; of a
    broadcast, a list in the order of its shards."""
    named: dict[str, Any] = {}
    for task_id, shards in ready.parents.items():
        status = status_of_shards([shard.status for shard in shards])
        if status in TERMINAL and status != RunStatus.SKIPPED:
            every = [results.get(shard.run_id) for shard in shards]
            named[ready.child.parents[task_id]] = every if len(every) > 1 else every[0]
    return named
