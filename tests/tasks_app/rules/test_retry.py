from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.retry import RetryDecision, retry_decision


def _decide(
    status: str = "failed", attempt: int = 1, *, draw: float = 1.0, **policy: object
) -> RetryDecision | None:
    arguments = {
        "max_attempts": 5,
        "initial_seconds": 10,
        "max_seconds": 300,
        "backoff": "exponential",
    } | policy
    return retry_decision(
        status=status,
        attempt=attempt,
        random=lambda: draw,
        **arguments,  # type: ignore[arg-type]  # one dict for four types
    )


@pytest.mark.parametrize(
    ("status", "again"),
    [
        ("failed", True),
        ("timed_out", True),
        ("lost", True),
        ("succeeded", False),
        ("cancelled", False),
        ("skipped", False),
        ("expired", False),
        ("running", False),
        ("", False),
    ],
)
def test_only_failures_are_tried_again(status: str, *, again: bool) -> None:
    assert (_decide(status) is not None) is again


@pytest.mark.parametrize(
    ("attempt", "max_attempts", "again"),
    [(1, 1, False), (1, 2, True), (2, 2, False), (4, 5, True), (6, 5, False)],
)
def test_the_last_attempt_is_final(
    attempt: int, max_attempts: int, *, again: bool
) -> None:
    assert (_decide(attempt=attempt, max_attempts=max_attempts) is not None) is again


@pytest.mark.parametrize(
    ("backoff", "attempt", "draw", "delay"),
    [
        ("exponential", 1, 1.0, 10),
        ("exponential", 2, 1.0, 20),
        ("exponential", 4, 1.0, 80),
        ("exponential", 6, 1.0, 300),  # 320, cut
        ("exponential", 4, 0.5, 40),
        ("exponential", 4, 0.0, 0),
        ("exponential", 10_000, 1.0, 300),
        ("constant", 1, 0.3, 10),
        ("constant", 10_000, 0.3, 10),
    ],
)
def test_the_delay_doubles_to_the_maximum_with_full_jitter(
    backoff: str, attempt: int, draw: float, delay: float
) -> None:
    decision = _decide(
        attempt=attempt, draw=draw, backoff=backoff, max_attempts=100_000
    )

    assert decision == RetryDecision(delay)


def test_a_constant_delay_keeps_to_the_maximum() -> None:
    assert _decide(backoff="constant", max_seconds=3) == RetryDecision(3)


@given(
    attempt=st.integers(1, 10**6),
    draw=st.floats(0, 1, exclude_max=True),
    initial=st.floats(0, 1e9),
    maximum=st.floats(0, 1e9),
)
def test_no_delay_is_negative_over_the_maximum_or_an_overflow(
    attempt: int, draw: float, initial: float, maximum: float
) -> None:
    decision = _decide(
        attempt=attempt,
        draw=draw,
        initial_seconds=initial,
        max_seconds=maximum,
        max_attempts=10**7,
    )

    assert decision is not None
    assert 0 <= decision.delay_seconds <= maximum
