"""What events can tell of a run, and what no promise allows them to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks_app.rules.run_histories import (
    Excess,
    Limit,
    Moment,
    Recorded,
    contradictions,
    excesses,
)

START = datetime(2026, 7, 1, tzinfo=UTC)


def once(status: str) -> Recorded:
    return Recorded(status, is_at_most_once=True, max_attempts=1)


def thrice(status: str) -> Recorded:
    return Recorded(status, is_at_most_once=False, max_attempts=3)


def moment(second: float, kind: str, attempt: int, status: str) -> Moment:
    return Moment(kind, attempt, status, START + timedelta(seconds=second))


CREATED = moment(0, "created", 0, "queued")
STARTED = moment(1, "started", 1, "running")
SUCCEEDED = moment(2, "finished", 1, "succeeded")
RETRIED = moment(2, "retried", 1, "queued")
STARTED_AGAIN = moment(3, "started", 2, "running")
FAILED_AGAIN = moment(4, "finished", 2, "failed")


@pytest.mark.parametrize(
    ("status", "moments"),
    [
        ("queued", [CREATED]),
        ("running", [CREATED, STARTED]),
        ("succeeded", [CREATED, STARTED, SUCCEEDED]),
        ("skipped", [moment(0, "created", 0, "skipped")]),
        ("cancelled", [CREATED, moment(1, "finished", 0, "cancelled")]),
        ("failed", [CREATED, STARTED, RETRIED, STARTED_AGAIN, FAILED_AGAIN]),
        (
            "succeeded",
            [CREATED, STARTED, SUCCEEDED, moment(3, "stale_result", 1, "failed")],
        ),
    ],
)
def test_an_honest_history_has_no_contradiction(
    status: str, moments: list[Moment]
) -> None:
    assert list(contradictions(thrice(status), moments)) == []


@pytest.mark.parametrize(
    ("kind", "run", "moments"),
    [
        (
            "two_outcomes",
            once("failed"),
            [CREATED, STARTED, SUCCEEDED, moment(3, "finished", 1, "failed")],
        ),
        (
            "changed_after_end",
            once("succeeded"),
            [CREATED, STARTED, SUCCEEDED, moment(3, "cancel_requested", 1, "running")],
        ),
        (
            "changed_after_end",
            once("queued"),
            [CREATED, STARTED, SUCCEEDED],
        ),
        (
            "outcome_differs",
            once("failed"),
            [CREATED, STARTED, SUCCEEDED],
        ),
        ("outcome_differs", once("lost"), [CREATED, STARTED]),
        (
            "started_twice",
            once("failed"),
            [CREATED, STARTED, RETRIED, STARTED_AGAIN, FAILED_AGAIN],
        ),
        (
            "too_many_attempts",
            Recorded("failed", is_at_most_once=False, max_attempts=1),
            [CREATED, STARTED, RETRIED, STARTED_AGAIN, FAILED_AGAIN],
        ),
        (
            "overlapping_attempts",
            thrice("failed"),
            [CREATED, STARTED, STARTED_AGAIN, FAILED_AGAIN],
        ),
    ],
)
def test_a_contradiction_is_found(
    kind: str, run: Recorded, moments: list[Moment]
) -> None:
    assert [wrong.kind for wrong in contradictions(run, moments)] == [kind]


def test_a_start_beyond_the_limit_is_found() -> None:
    events = [
        (1, moment(1, "started", 1, "running")),
        (2, moment(2, "started", 1, "running")),
        (3, moment(3, "started", 1, "running")),
        (1, moment(4, "finished", 1, "succeeded")),
        (4, moment(5, "started", 1, "running")),
    ]
    found = [
        (wrong.run_id, wrong.runs) for wrong in excesses([Limit(START, 2)], events)
    ]
    assert found == [(3, 3), (4, 3)]


def test_an_attempt_that_was_given_up_makes_room() -> None:
    events = [
        (1, moment(1, "started", 1, "running")),
        (1, moment(2, "retried", 1, "queued")),
        (2, moment(3, "started", 1, "running")),
    ]
    assert list(excesses([Limit(START, 1)], events)) == []


def test_a_lowered_limit_counts_for_the_next_start() -> None:
    limits = [Limit(START, None), Limit(START + timedelta(seconds=2.5), 1)]
    events = [
        (1, moment(1, "started", 1, "running")),
        (2, moment(2, "started", 1, "running")),
        (3, moment(3, "started", 1, "running")),
    ]
    assert list(excesses(limits, events)) == [
        Excess(3, START + timedelta(seconds=3), 3, 1)
    ]
