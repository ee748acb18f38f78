"""Decisions of a target's circuit breaker (M. Nygard, Release It!, "Circuit Breaker").

Closed: calls go out. After some failures in a row it opens: calls wait. After a pause
one probe goes out, half open: its success closes the breaker, its failure opens it
for another pause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNWELL = frozenset(
    {"timeout", "dns_failed", "tls_failed", "connection_failed", "answer_invalid"}
)
"""Reasons of an HTTP call that speak of its target, not of the request."""
SAYS_NOTHING = frozenset({"cancelled", "lost"})


def is_well(status: str, reason: str, result: Any) -> bool | None:
    """Whether an attempt's end shows its target well; None if it shows neither.

    A refusal by the target (a 4xx, a body that does not match) is an answer: it is
    well. A 5xx is not.
    """
    if status in SAYS_NOTHING:
        return None
    if status == "timed_out" or reason in UNWELL:
        return False
    if reason == "unexpected_status" and isinstance(result, dict):
        return int(result.get("status", 0)) < 500
    return True


@dataclass(frozen=True, slots=True)
class BreakerMove:
    """The state after an end, and the failures in a row that are counted."""

    state: str
    failures: int


def breaker_move(
    state: str, failures: int, threshold: int, *, is_success: bool, is_probe: bool
) -> BreakerMove:
    """The next state. While it is not closed, only the probe's end moves it: calls
    that had gone out before tell of the past."""
    if state != "closed" and not is_probe:
        return BreakerMove(state, failures)
    if is_success:
        return BreakerMove("closed", 0)
    failures += 1
    is_open = state != "closed" or failures >= threshold
    return BreakerMove("open" if is_open else "closed", failures)
