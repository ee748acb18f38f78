"""Whether a failed attempt is tried again, and after how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

RETRYABLE = frozenset({"failed", "timed_out", "lost"})

# 2**64 times any delay is over any maximum; 2.0**10_000 would overflow.
MAX_DOUBLINGS = 64


@dataclass(frozen=True)
class RetryDecision:
    """Try again after `delay_seconds`."""

    delay_seconds: float


def retry_decision(  # noqa: PLR0913 - a task's retry columns, as they are stored
    *,
    status: str,
    attempt: int,
    max_attempts: int,
    initial_seconds: float,
    max_seconds: float,
    backoff: Literal["exponential", "constant"] = "exponential",
    random: Callable[[], float],
) -> RetryDecision | None:
    """The next attempt's delay, or None if `attempt` (from 1) was the last.

    Only failed, timed_out and lost are tried again. `exponential` is "full jitter": a
    random part of the ceiling min(max, initial x 2**(attempt-1)), so that a thousand
    runs that failed together do not come back together (AWS Architecture Blog,
    "Exponential Backoff And Jitter"). `constant` waits `initial_seconds`, at most
    `max_seconds`. `random` gives numbers in [0, 1).
    """
    if status not in RETRYABLE or attempt >= max_attempts:
        return None
    if backoff == "constant":
        return RetryDecision(min(max_seconds, initial_seconds))
    doublings = min(attempt - 1, MAX_DOUBLINGS)
    return RetryDecision(random() * min(max_seconds, initial_seconds * 2.0**doublings))
