"""The numbers of runs on PostgreSQL: each carries a day, in UTC.

A number reads YYMMDD and ten digits that count on, so numbers sort by day, then by
creation, and a range of numbers is a range of days: what is partitioned by number is
partitioned by time (docs/history.md). Below 2**53 until 2090, for JSON's readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

IDS_PER_DAY = 10**10
"""More than come in a century at a thousand a second for a day. Runs from before the
numbers carried days are those of day 0."""

FIRST_YEAR = 2000


def first_id(day: date) -> int:
    """The lowest number that a run of this day can have; 0 for days before 2000, of
    which there are none."""
    if day.year < FIRST_YEAR:
        return 0
    return int(f"{day:%y%m%d}") * IDS_PER_DAY


def day_of(run_id: int) -> date | None:
    """The day that a run's number carries; None for those of old, and SQLite's."""
    months, day = divmod(run_id // IDS_PER_DAY, 100)
    years, month = divmod(months, 100)
    return date(FIRST_YEAR + years, month, day) if day else None


def days_span(run_ids: Sequence[int]) -> tuple[int, int]:
    """The numbers of all days from the first to the last of these runs: from the first
    number up to, and without, the second. The runs below these as their roots are
    within it as well."""
    return (
        min(run_ids) // IDS_PER_DAY * IDS_PER_DAY,
        (max(run_ids) // IDS_PER_DAY + 1) * IDS_PER_DAY,
    )
