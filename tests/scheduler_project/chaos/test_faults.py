"""The faults of a trial follow from its seed."""

from __future__ import annotations

from collections import Counter

from scheduler_project.chaos.faults import (
    BEAT_AND_WORKER_FAULTS,
    DATABASE_STOP,
    DATABASE_STOPS,
    OTHER_BROKER_FAULTS,
    OWN_BROKER_FAULTS,
    fault_plan,
)

COUNTS = {"beats": 2, "workers": 3, "own_broker": 1}


def test_a_seed_is_one_sequence_of_faults() -> None:
    first = fault_plan(7, 60, COUNTS, 3)
    assert fault_plan(7, 60, COUNTS, 3) == first
    assert fault_plan(8, 60, COUNTS, 3) != first


def test_a_longer_trial_begins_like_a_shorter_one() -> None:
    short = fault_plan(7, 30, COUNTS, 3)
    assert fault_plan(7, 60, COUNTS, 3)[: len(short)] == short


def test_even_a_short_trial_sees_nearly_every_kind() -> None:
    kinds = {*BEAT_AND_WORKER_FAULTS, *OWN_BROKER_FAULTS, DATABASE_STOP}
    for seed in range(20):
        found = {fault.kind for fault in fault_plan(seed, 18, COUNTS, 3)}
        assert found == kinds


def test_every_fault_strikes_within_the_trial_and_somebody_who_is_there() -> None:
    for fault in fault_plan(3, 600, COUNTS, 3):
        assert 0 < fault.at < 600
        assert fault.target < (3 if "worker" in fault.kind else 2)
        assert 0 <= fault.seconds <= 6


def test_the_database_is_stopped_a_few_times_only() -> None:
    kinds = Counter(fault.kind for fault in fault_plan(3, 600, COUNTS, 3))
    assert kinds[DATABASE_STOP] == DATABASE_STOPS


def test_a_broker_of_somebody_is_not_killed() -> None:
    counts = {**COUNTS, "own_broker": 0}
    kinds = {fault.kind for fault in fault_plan(3, 600, counts, 3)}
    assert "kill broker" not in kinds
    assert set(OTHER_BROKER_FAULTS) <= kinds
