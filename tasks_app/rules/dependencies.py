"""Decisions about the graph of tasks: cycles, and when a join runs.

An edge is (parent, child): the child runs after the parent.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tasks_app.rules.states import TERMINAL

Edge = tuple[int, int]
Condition = Literal["success", "failure", "done"]

SATISFYING: dict[Condition, frozenset[str]] = {
    "success": frozenset({"succeeded"}),
    "failure": frozenset({"failed", "timed_out", "lost"}),
    "done": TERMINAL,
}


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


@dataclass(frozen=True)
class ParentState:
    """One edge into a join: the parent's name, what is asked of it, how it ended.

    `status` is None, or not terminal, while the parent's run is not over.
    """

    name: str
    condition: Condition
    status: str | None


@dataclass(frozen=True)
class JoinDecision:
    """What a child with several parents does now; `reason` belongs to a skip."""

    action: Literal["wait", "run", "skip"]
    reason: str = ""


WAIT = JoinDecision("wait")
RUN = JoinDecision("run")


def join_decision(parents: Mapping[int, ParentState]) -> JoinDecision:
    """Decide for the child of `parents`, keyed by task id, within one root run.

    It waits for every parent, even once one has failed its condition: a skip written
    early would race with the parents that still run. Raises ValueError without
    parents, since "every condition holds" would start the child for no reason.
    """
    if not parents:
        raise ValueError("a join has at least one parent")
    if any(parent.status not in TERMINAL for parent in parents.values()):
        return WAIT
    for parent in parents.values():
        if parent.status not in SATISFYING[parent.condition]:
            return JoinDecision(
                "skip",
                f"parent {parent.name!r} ended {parent.status},"
                f" the dependency asks for {parent.condition}",
            )
    return RUN
