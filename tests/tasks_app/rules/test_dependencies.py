from __future__ import annotations

from graphlib import TopologicalSorter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.dependencies import (
    RUN,
    WAIT,
    Condition,
    ParentState,
    find_cycle,
    join_decision,
)
from tasks_app.rules.states import TERMINAL

DIAMOND = [(1, 2), (1, 3), (2, 4), (3, 4)]


@pytest.mark.parametrize(
    ("edges", "new_edge", "cycle"),
    [
        ([], (1, 2), None),
        ([], (1, 1), [1, 1]),
        ([(1, 2)], (2, 1), [2, 1, 2]),
        ([(1, 2), (2, 3)], (3, 1), [3, 1, 2, 3]),
        ([(1, 2), (2, 3)], (1, 3), None),
        (DIAMOND, (1, 4), None),
        (DIAMOND, (4, 1), [4, 1, 2, 4]),
        ([(1, 2), (2, 3), (3, 4), (1, 4)], (4, 1), [4, 1, 4]),  # the shortest
        ([(8, 9), (9, 8)], (1, 2), None),  # a cycle elsewhere is not this edge's
    ],
)
def test_a_new_edge_that_closes_a_cycle_is_answered_with_the_path(
    edges: list[tuple[int, int]], new_edge: tuple[int, int], cycle: list[int] | None
) -> None:
    assert find_cycle(edges, new_edge) == cycle


edge_lists = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20)


@given(edge_lists)
def test_a_graph_built_edge_by_edge_stays_free_of_cycles(
    candidates: list[tuple[int, int]],
) -> None:
    edges: list[tuple[int, int]] = []
    for edge in candidates:
        cycle = find_cycle(edges, edge)
        if cycle is None:
            edges.append(edge)
        else:
            steps = list(pairwise(cycle))
            assert steps[0] == edge
            assert set(steps[1:]) <= set(edges)
            assert cycle[0] == cycle[-1]

    order = TopologicalSorter[int]()
    for parent, child in edges:
        order.add(child, parent)
    order.prepare()  # it raises on a cycle


def test_a_chain_of_ten_thousand_needs_no_recursion() -> None:
    chain = [(n, n + 1) for n in range(10_000)]

    assert len(find_cycle(chain, (10_000, 0)) or []) == 10_002


HOLDS = {
    # condition  the terminal statuses that satisfy it
    "success": {"succeeded"},
    "failure": {"failed", "timed_out", "lost"},
    "done": TERMINAL,
}


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("condition", ["success", "failure", "done"])
def test_a_condition_holds_for_its_statuses_only(
    condition: Condition, status: str
) -> None:
    decision = join_decision({1: ParentState("load", condition, status)})

    assert (decision == RUN) is (status in HOLDS[condition])


def _parent(name: str, condition: Condition, status: str | None) -> ParentState:
    return ParentState(name, condition, status)


@pytest.mark.parametrize(
    ("parents", "action"),
    [
        ([("a", "success", "succeeded"), ("b", "failure", "failed")], "run"),
        ([("a", "success", "succeeded"), ("b", "success", None)], "wait"),
        ([("a", "success", "succeeded"), ("b", "success", "running")], "wait"),
        ([("a", "success", "failed"), ("b", "success", None)], "wait"),
        ([("a", "success", "failed"), ("b", "success", "succeeded")], "skip"),
        ([("a", "done", "cancelled"), ("b", "done", "skipped")], "run"),
    ],
)
def test_a_join_waits_for_all_then_runs_or_skips(
    parents: list[tuple[str, Condition, str | None]], action: str
) -> None:
    states = {n: _parent(*parent) for n, parent in enumerate(parents)}

    assert join_decision(states).action == action


def test_a_skip_names_the_parent_and_both_sides() -> None:
    decision = join_decision(
        {
            1: _parent("extract", "success", "succeeded"),
            2: _parent("load", "success", "timed_out"),
        }
    )

    assert decision.reason == (
        "parent 'load' ended timed_out, the dependency asks for success"
    )


def test_waiting_and_running_need_no_reason() -> None:
    assert WAIT.reason == RUN.reason == ""


def test_a_join_without_parents_is_not_started_by_accident() -> None:
    with pytest.raises(ValueError, match="at least one parent"):
        join_decision({})
