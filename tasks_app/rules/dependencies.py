"""Decisions about the graph of tasks: cycles, and when a join runs.

An edge is (parent, child): the child runs after the parent.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks_app.rules.states import TERMINAL

Edge = tuple[int, int]
TriggerRule = Literal["all_success", "any_success", "all_done", "all_failed"]

WANTED: dict[TriggerRule, frozenset[str]] = {
    "all_success": frozenset({"succeeded"}),
    "any_success": frozenset({"succeeded"}),
    "all_done": TERMINAL,
    "all_failed": frozenset({"failed", "timed_out", "lost"}),
}
"""How a parent has to end to speak for the child."""
MAX_NAMED = 3  # parents in a reason, which has 500 characters


def find_cycle(edges: Iterable[Edge], new_edge: Edge) -> list[int] | None:
    """The shortest cycle that `new_edge` would close, or None.

    The path starts and ends with the new edge's parent: [1, 2, 3, 1].
    """
    parent, child = new_edge
    came_from = _search(_children(edges), child)
    if parent == child:
        return [parent, child]
    if parent not in came_from:
        return None
    path = [parent]
    while path[-1] != child:
        path.append(came_from[path[-1]])
    return [parent, *reversed(path)]


def _children(edges: Iterable[Edge]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = defaultdict(list)
    for parent, child in edges:
        children[parent].append(child)
    return children


def _search(children: Mapping[int, list[int]], root: int) -> dict[int, int]:
    """Breadth first: each task found below `root`, with the one it was found from."""
    came_from: dict[int, int] = {}
    waiting = deque([root])
    while waiting:
        task = waiting.popleft()
        for child in children.get(task, ()):
            if child not in came_from:
                came_from[child] = task
                waiting.append(child)
    return came_from


def topmost(edges: Iterable[Edge], tasks: Iterable[int]) -> set[int]:
    """Those of `tasks` that no other one of them leads to."""
    children, every = _children(edges), set(tasks)
    below = {found for task in every for found in _search(children, task)}
    return every - below


def status_of_shards(statuses: Sequence[str]) -> str | None:
    """The one status of a task that ran on several workers under one root run.

    None where it has no run. Not ended while one has not, a success only if all are;
    ends of several kinds are a failure.
    """
    for status in statuses:
        if status not in TERMINAL:
            return status
    if len(set(statuses)) > 1:
        return "failed"
    return statuses[0] if statuses else None


@dataclass(frozen=True)
class JoinDecision:
    """What a child with several parents does now; `reason` belongs to a skip."""

    action: Literal["wait", "run", "skip"]
    reason: str = ""


WAIT = JoinDecision("wait")
RUN = JoinDecision("run")


@dataclass(frozen=True)
class Parent:
    """A parent in a join: its name and the status of its run, None before there is one.

    Skipped, cancelled and expired are ends, but neither a success nor a failure.
    """

    name: str
    status: str | None


def join_decision(rule: TriggerRule, parents: Mapping[int, Parent]) -> JoinDecision:
    """Decide for the child of `parents`, keyed by task id, within one root run.

    The rules are Airflow's: any_success is its one_success, and runs as soon as one
    parent succeeded. The others wait for every parent, even once the answer is clear: a
    skip written early would race with the parents that still run. A skip and a wait
    name the parents that caused it. Raises ValueError without parents, since "every
    parent succeeded" would start the child for no reason.
    """
    if not parents:
        raise ValueError("a join has at least one parent")
    unwanted = [each for each in parents.values() if each.status not in WANTED[rule]]
    if rule == "any_success" and len(unwanted) < len(parents):
        return RUN
    if waiting := [each for each in parents.values() if each.status not in TERMINAL]:
        return JoinDecision("wait", f"waits: {_named(waiting)}")
    if not unwanted:
        return RUN
    return JoinDecision("skip", f"{_named(unwanted)}: the trigger rule is {rule}")


def _named(parents: Sequence[Parent]) -> str:
    """As in "parent 'a' ended failed, parent 'b' is running and 4 more"."""
    named = [
        f"parent {each.name[:100]!r} {_state(each.status)}"
        for each in parents[:MAX_NAMED]
    ]
    more = len(parents) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _state(status: str | None) -> str:
    if status is None:
        return "has not begun"
    return f"ended {status}" if status in TERMINAL else f"is {status}"
