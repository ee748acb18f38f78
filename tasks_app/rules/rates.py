"""Rates such as 10/m: at most so many starts in any window of so many seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

MAX_RUNS = 100_000
MAX_SECONDS = 31 * 86_400
"""A start is remembered for the length of the window."""

# Nine digits: int() of thousands of them is refused by Python itself.
_RATE = re.compile(r"(\d{1,9})\s*/\s*(\d{0,9})\s*([a-zA-Z]+)", re.ASCII)


class RateInvalid(ValueError):
    """The rate cannot be accepted; `code` is stable, `message` says what to write."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Rate:
    """At most `runs` starts in any `seconds`; one that exists is valid."""

    runs: int
    seconds: int

    def __post_init__(self) -> None:
        if not 1 <= self.runs <= MAX_RUNS:
            raise RateInvalid(
                "runs_out_of_range", f"a rate allows 1-{MAX_RUNS} runs per period"
            )
        if not 1 <= self.seconds <= MAX_SECONDS:
            raise RateInvalid(
                "seconds_out_of_range",
                f"the period of a rate is 1-{MAX_SECONDS} seconds (31 days)",
            )

    def __str__(self) -> str:
        """The shortest text that `parse_rate` reads back: 10/m, 100/15m, 5/90s."""
        unit = max(
            (unit for unit, size in UNITS.items() if self.seconds % size == 0),
            key=UNITS.__getitem__,
        )
        number = self.seconds // UNITS[unit]
        return f"{self.runs}/{unit}" if number == 1 else f"{self.runs}/{number}{unit}"


def parse_rate(text: str) -> Rate:
    """Read 10/m, 100/15m or 5/s; the units are s, m, h and d.

    Blanks between the parts and capitals are let pass. Raises RateInvalid.
    """
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise RateInvalid(
            "bad_rate", "a rate is runs per period, such as 10/m, 100/15m or 5/s"
        )
    runs, number, unit = found.groups()
    if unit.lower() not in UNITS:
        raise RateInvalid(
            "unknown_unit", f"{unit[:20]!r} is no unit of time here; use s, m, h or d"
        )
    return Rate(int(runs), int(number or 1) * UNITS[unit.lower()])


def next_room_at(
    recent_starts: Sequence[datetime], limit: int, per_seconds: int, now: datetime
) -> datetime | None:
    """When one more may start, or None if it may now.

    A sliding window log: a start counts in [start, start + per_seconds), so no window
    of that length, wherever it begins, holds more than `limit`. `recent_starts` may
    come in any order and may hold older ones. Raises ValueError for a limit under 1,
    which never has room.
    """
    if limit < 1:
        raise ValueError("a rate allows at least one run")
    window = timedelta(seconds=per_seconds)
    counting = sorted(start for start in recent_starts if start > now - window)
    if len(counting) < limit:
        return None
    return counting[-limit] + window
