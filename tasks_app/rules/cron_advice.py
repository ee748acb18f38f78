"""What to tell people about a cron expression: a description, and its surprises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from cronsim import CronSim

from tasks_app.rules.cron import Cron
from tasks_app.rules.zones import SECOND, jumps, wall_clock

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
SHORT_MONTHS = {29: {2}, 30: {2}, 31: {2, 4, 6, 9, 11}}


@dataclass(frozen=True)
class ScheduleWarning:
    """A legal schedule may not do what its author thinks."""

    code: str
    message: str


def describe_cron(expression: str) -> str:
    """Short English.

    CronSim's words, since they follow its rules: cron-descriptor says "on day 1, only
    on Monday" of `0 3 1 * 1`, which fires on the first and on every Monday.
    """
    step = re.fullmatch(r"\*/(\d+) \* \* \* \*", expression)
    if step and 60 % int(step[1]) == 0 and int(step[1]) > 1:
        return f"every {int(step[1])} minutes"
    text = CronSim(expression, datetime(2000, 1, 1)).explain()  # noqa: DTZ001 - wall
    text = re.sub(r"\b(\d*[02-9])?([123])th\b", _ordinal, text)  # it says "31th"
    return text[0].lower() + text[1:]


def _ordinal(found: re.Match[str]) -> str:
    tens, unit = found[1] or "", found[2]
    return f"{tens}{unit}{('st', 'nd', 'rd')[int(unit) - 1]}"


def calendar_warnings(expression: str) -> Iterator[ScheduleWarning]:
    """Days that some months lack, and the two ways to join the day fields."""
    day_of_month, _, day_of_week = expression.split(" ")[2:]
    stars = [day_of_month.startswith("*"), day_of_week.startswith("*")]
    if not any(stars):
        yield ScheduleWarning(
            "day_fields_or",
            "day-of-month and day-of-week are both set: it fires when either of them"
            " matches (crontab(5)), not only when both do",
        )
    elif all(field != "*" for field in (day_of_month, day_of_week)):
        yield ScheduleWarning(
            "day_fields_and",
            "one day field starts with *, so it fires only when day-of-month and"
            " day-of-week both match (crontab(5))",
        )
    yield from _short_month_warnings(expression)


def _short_month_warnings(expression: str) -> Iterator[ScheduleWarning]:
    sim = CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - a wall clock
    for day in _late_days(expression.split(" ")[2]):
        lacking = sorted(SHORT_MONTHS[day] & sim.months)
        if day == 29 and sim.months == {2}:  # 29 February, by itself
            yield ScheduleWarning(
                "leap_years_only", "29 February comes only in leap years"
            )
        elif lacking:
            names = ", ".join(MONTHS[month - 1] for month in lacking)
            years = " (outside leap years)" if day == 29 else ""
            yield ScheduleWarning(
                "day_missing",
                f"day {day} does not come in {names}{years}; L is the last day of"
                " every month",
            )


def _late_days(day_of_month: str) -> list[int]:
    """The days after the 28th that are asked for by number, not by a long range."""
    starts = [re.match(r"\d+", term) for term in day_of_month.split(",")]
    return sorted({int(start[0]) for start in starts if start} & set(SHORT_MONTHS))


def clock_warnings(
    cron: Cron, after: datetime, until: datetime
) -> Iterator[ScheduleWarning]:
    """Fires in (after, until] that a change of the clocks moves, drops or doubles."""
    if not cron.is_fixed_time and len(cron.hours) == 24:
        return  # as many fires in a real hour as ever: nobody is surprised
    for jump in jumps(cron.zone, after, until):
        old = wall_clock(jump - SECOND, cron.zone) + SECOND
        new = wall_clock(jump, cron.zone)
        start, end = sorted([old, new])
        wall = next(cron.walls(start - SECOND), None)
        if wall is None or wall >= end:
            continue
        warn = _gap_warning if new > old else _overlap_warning
        yield warn(cron, wall, _Jump(old.date(), f"{old:%H:%M}", f"{new:%H:%M}"))


@dataclass(frozen=True)
class _Jump:
    """A change of the clocks, as people write it."""

    day: date
    old: str
    new: str


def _gap_warning(cron: Cron, wall: datetime, jump: _Jump) -> ScheduleWarning:
    effect = (
        f"so {wall:%H:%M} does not exist: the fire runs at {jump.new}"
        if cron.is_fixed_time
        else "and the fires in between do not happen"
    )
    return ScheduleWarning(
        "clock_gap",
        f"on {jump.day} clocks in {cron.zone} go forward from {jump.old} to {jump.new},"
        f" {effect}",
    )


def _overlap_warning(cron: Cron, wall: datetime, jump: _Jump) -> ScheduleWarning:
    effect = (
        f"so {wall:%H:%M} comes twice: the fire runs once, the first time"
        if cron.is_fixed_time
        else "and the fires in between happen twice"
    )
    return ScheduleWarning(
        "clock_overlap",
        f"on {jump.day} clocks in {cron.zone} go back from {jump.old} to {jump.new},"
        f" {effect}",
    )
