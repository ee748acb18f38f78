from __future__ import annotations

from graphlib import TopologicalSorter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.dependencies import (
    RUN,
    Parent,
    TriggerRule,
    find_cycle,
    join_decision,
    status_of_shards,
    topmost,
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


DECISIONS = [
    # rule          how the parents stand       decision
    ("all_success", "succeeded", "run"),
    ("all_success", "succeeded succeeded", "run"),
    ("all_success", "succeeded running", "wait"),
    ("all_success", "failed running", "wait"),  # no early skip
    ("all_success", "failed -", "wait"),
    ("all_success", "succeeded failed", "skip"),
    ("all_success", "succeeded skipped", "skip"),
    ("any_success", "succeeded running", "run"),  # at once
    ("any_success", "succeeded -", "run"),
    ("any_success", "failed succeeded", "run"),
    ("any_success", "failed queued", "wait"),
    ("any_success", "failed skipped", "skip"),
    ("all_done", "failed skipped succeeded", "run"),
    ("all_done", "failed running", "wait"),
    ("all_failed", "failed timed_out lost", "run"),
    ("all_failed", "failed running", "wait"),
    ("all_failed", "succeeded running", "wait"),
    ("all_failed", "failed succeeded", "skip"),
    ("all_failed", "failed cancelled", "skip"),
    ("all_failed", "expired", "skip"),
]


def _parents(statuses: str) -> dict[int, Parent]:
    return {
        number: Parent(name, None if status == "-" else status)
        for number, (name, status) in enumerate(
            zip("abcdefgh", statuses.split(), strict=False)
        )
    }


@pytest.mark.parametrize(("rule", "statuses", "action"), DECISIONS)
def test_a_trigger_rule_decides_about_a_join(
    rule: TriggerRule, statuses: str, action: str
) -> None:
    assert join_decision(rule, _parents(statuses)).action == action


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_end_is_a_success_a_failure_or_neither(status: str) -> None:
    def runs(rule: TriggerRule) -> bool:
        return join_decision(rule, _parents(status)) == RUN

    assert runs("all_success") is runs("any_success") is (status == "succeeded")
    assert runs("all_failed") is (status in {"failed", "timed_out", "lost"})
    assert runs("all_done")


REASONS = [
    # rule          parents                   reason
    (
        "all_success",
        "succeeded timed_out",
        "parent 'b' ended timed_out: the trigger rule is all_success",
    ),
    (
        "any_success",
        "failed skipped",
        "parent 'a' ended failed, parent 'b' ended skipped:"
        " the trigger rule is any_success",
    ),
    (
        "all_failed",
        "succeeded failed",
        "parent 'a' ended succeeded: the trigger rule is all_failed",
    ),
    ("all_done", "failed running", "waits: parent 'b' is running"),
    ("all_done", "- failed", "waits: parent 'a' has not begun"),
]


@pytest.mark.parametrize(("rule", "statuses", "reason"), REASONS)
def test_a_skip_and_a_wait_name_the_parents(
    rule: TriggerRule, statuses: str, reason: str
) -> None:
    assert join_decision(rule, _parents(statuses)).reason == reason


def test_a_reason_fits_its_column_however_many_parents_there_are() -> None:
    parents = {number: Parent("n" * 200, "timed_out") for number in range(1000)}

    reason = join_decision("all_success", parents).reason

    assert "and 997 more" in reason
    assert len(reason) <= 500


def test_a_trigger_rule_without_parents_starts_nothing_by_accident() -> None:
    with pytest.raises(ValueError, match="at least one parent"):
        join_decision("all_done", {})


@pytest.mark.parametrize(
    ("tasks", "top"),
    [
        ([1, 2, 4], {1}),
        ([2, 3], {2, 3}),
        ([2, 3, 4], {2, 3}),
        ([4, 9], {4, 9}),
        ([], set()),
    ],
)
def test_topmost_are_those_that_no_other_leads_to(
    tasks: list[int], top: set[int]
) -> None:
    assert topmost(DIAMOND, tasks) == top


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ("", None),
        ("succeeded", "succeeded"),
        ("skipped", "skipped"),
        ("succeeded succeeded", "succeeded"),
        ("succeeded running failed", "running"),
        ("cancelled cancelled", "cancelled"),
        ("succeeded failed", "failed"),
        ("succeeded cancelled", "failed"),
    ],
)
def test_a_broadcast_has_ended_when_all_of_it_has(
    statuses: str, status: str | None
) -> None:
    assert status_of_shards(statuses.split()) == status
