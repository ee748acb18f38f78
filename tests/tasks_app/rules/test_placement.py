from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.placement import (
    Placement,
    WorkerView,
    can_take,
    least_loaded,
    wish,
    worker_lane,
)

IDLE = WorkerView(
    id=1,
    name="alpha",
    queues=frozenset({"default", "slow"}),
    tags=frozenset({"gpu", "spot"}),
    running=0,
    max_tasks=4,
    is_draining=False,
    is_online=True,
)


TAKES = [
    # what is different             queue      lane                    why not
    ({}, "default", "", ""),
    ({}, "slow", "gpu", ""),
    ({}, "default", "worker:alpha", ""),
    ({"running": 4}, "default", "", ""),  # later
    ({}, "fast", "", "it does not serve queue fast"),
    ({"is_online": False}, "default", "", "it is offline"),
    ({"is_draining": True}, "default", "", "it is draining"),
    ({}, "default", "worker:beta", "the run is for worker beta only"),
    ({}, "default", "worker:alph", "the run is for worker alph only"),
    ({}, "default", "tpu", "its tags do not fit: the run needs tpu"),
    (
        {},
        "default",
        "gpu and ssd and not spot",
        "its tags do not fit: the run needs ssd and not spot",
    ),
    # The first reason is the one that will not pass by itself.
    ({"is_online": False}, "default", "worker:beta", "the run is for worker beta only"),
    ({"is_online": False, "is_draining": True}, "fast", "tpu", "it is offline"),
    ({"is_draining": True}, "fast", "tpu", "it is draining"),
]


@pytest.mark.parametrize(("changes", "queue", "lane", "reason"), TAKES)
def test_a_worker_takes_a_run_or_says_why_not(
    changes: dict[str, Any], queue: str, lane: str, reason: str
) -> None:
    assert can_take(replace(IDLE, **changes), queue, lane) == reason


def test_runs_that_wait_for_a_worker_load_it_and_take_no_slot() -> None:
    full, idle = replace(IDLE, wanted=4), replace(IDLE, id=2, name="beta", running=3)

    assert least_loaded([full, idle]) == idle
    assert (full.free_slots, idle.free_slots) == (4, 1)


def test_a_worker_takes_its_own_lane_whatever_its_name() -> None:
    worker = replace(IDLE, name="and (or")

    assert can_take(worker, "default", worker_lane(worker.name)) == ""


def test_a_lane_that_cannot_be_read_is_nobodys_by_accident() -> None:
    refusal = can_take(IDLE, "default", "gpu and")

    assert refusal == "the run's match cannot be read: a tag is missing at the end"


def _worker(name: str, running: int, max_tasks: int = 4) -> WorkerView:
    return replace(IDLE, id=ord(name), name=name, running=running, max_tasks=max_tasks)


LOADS = [
    # workers as (name, running, slots)            least loaded
    ([], None),
    ([("a", 1, 4), ("b", 0, 4)], "b"),
    ([("a", 1, 2), ("b", 2, 8)], "b"),  # by part of the slots, not by number
    ([("b", 1, 4), ("a", 2, 8)], "a"),  # equal: by name
    ([("a", 4, 4), ("b", 3, 4)], "b"),
    ([("a", 4, 4), ("b", 9, 4)], None),  # full, or over since its slots were cut
    ([("a", 0, 0)], None),
]


@pytest.mark.parametrize(("workers", "name"), LOADS)
def test_the_least_loaded_has_the_smallest_part_of_its_slots_taken(
    workers: list[tuple[str, int, int]], name: str | None
) -> None:
    chosen = least_loaded([_worker(*each) for each in workers])

    assert (chosen.name if chosen else None) == name


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.integers(0, 9)),
        unique_by=lambda each: each[0],
    ),
    st.randoms(use_true_random=False),
)
def test_the_choice_does_not_depend_on_the_order_of_the_workers(
    loads: list[tuple[str, int, int]], random: Any
) -> None:
    workers = [_worker(*each) for each in loads]
    shuffled = random.sample(workers, len(workers))

    assert least_loaded(shuffled) == least_loaded(workers)


WISHES = [
    # placement       ran last on  wishes for
    ("any", "a", None),
    ("worker", "a", None),
    ("broadcast", "a", None),
    ("least_loaded", "a", "b"),
    ("same_worker", "a", "a"),  # it is full
    ("same_worker", "z", None),  # it is gone
    ("same_worker", None, None),  # the first run
]


@pytest.mark.parametrize(("placement", "last", "name"), WISHES)
def test_a_placement_is_a_wish_for_one_worker_or_for_none(
    placement: Placement, last: str | None, name: str | None
) -> None:
    workers = [_worker("a", 4), _worker("b", 1), _worker("c", 2)]

    wished = wish(placement, workers, ord(last) if last else None)

    assert (wished.name if wished else None) == name
