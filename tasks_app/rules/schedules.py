"""Schedules as values: cron, interval and one-off, and when each of them fires.

A schedule that exists is valid: its constructor raises `ScheduleInvalid` otherwise.
Nominal times go in as aware datetimes of any zone and come out in UTC. `start_at` and
`end_at` are inclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import cast

from tasks_app.rules.cron import TICK, Cron, compiled
from tasks_app.rules.cron_advice import (
    ScheduleWarning,
    calendar_warnings,
    clock_warnings,
    describe_cron,
)
from tasks_app.rules.cron_text import parse_cron
from tasks_app.rules.errors import ScheduleInvalid
from tasks_app.rules.zones import parse_timezone

__all__ = [
    "CronSchedule",
    "IntervalSchedule",
    "OneOffSchedule",
    "Schedule",
    "ScheduleInvalid",
    "ScheduleWarning",
    "count_fires",
    "describe",
    "fires_between",
    "fires_due",
    "newest_fires",
    "next_fire",
    "next_fires",
    "parse_cron",
    "parse_timezone",
    "stored_schedule",
    "warnings",
]

MAX_INTERVAL_SECONDS = 366 * 86_400
FIRST_YEAR, LAST_YEAR = 1970, 2200
LOOK_AHEAD = timedelta(days=366)
FREQUENT_FIRES_PER_DAY = 1_000


@dataclass(frozen=True)
class CronSchedule:
    """Fires when the wall clock of `timezone` matches; DST as in Debian cron."""

    expression: str
    timezone: str
    start_at: datetime | None = None
    end_at: datetime | None = None

    def __post_init__(self) -> None:
        _keep(self, expression=parse_cron(self.expression))
        parse_timezone(self.timezone)
        _keep_moments(self, "start_at", "end_at")
        if self.start_at and self.end_at:
            _check_order("start_at", self.start_at, self.end_at)

    @property
    def cron(self) -> Cron:
        return compiled(self.expression, self.timezone)

    def next(self, after: datetime) -> datetime | None:
        if self.start_at is not None:
            after = max(after, self.start_at - TICK)
        return self.cron.next(after)

    def fires_at(self, moment: datetime) -> bool:
        is_early = self.start_at is not None and moment < self.start_at
        return not is_early and self.cron.fires_at(moment)

    def count(self, after: datetime, until: datetime, cap: int | None) -> int:
        if self.start_at is not None:
            after = max(after, self.start_at - TICK)
        return self.cron.count(after, until, cap) if after < until else 0

    def newest(self, after: datetime, until: datetime) -> Iterator[datetime]:
        if self.start_at is not None:
            after = max(after, self.start_at - TICK)
        return self.cron.newest(after, until) if after < until else iter(())


@dataclass(frozen=True)
class IntervalSchedule:
    """Fires at anchor + k x seconds, k = 0, 1, ...: arithmetic, so it never drifts."""

    seconds: int
    anchor: datetime
    end_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)
        _keep_moments(self, "anchor", "end_at")
        if self.end_at:
            _check_order("anchor", self.anchor, self.end_at)

    def next(self, after: datetime) -> datetime | None:
        return self._fire(self._fires_until(after))

    def fires_at(self, moment: datetime) -> bool:
        return self.next(moment - TICK) == moment

    def count(self, after: datetime, until: datetime, cap: int | None) -> int:
        total = max(0, self._fires_until(until) - self._fires_until(after))
        return total if cap is None else min(total, cap)

    def newest(self, after: datetime, until: datetime) -> Iterator[datetime]:
        newest, oldest = self._fires_until(until) - 1, self._fires_until(after)
        return (self._fire(index) for index in range(newest, oldest - 1, -1))

    def _fire(self, index: int) -> datetime:
        return self.anchor + index * timedelta(seconds=self.seconds)

    def _fires_until(self, moment: datetime) -> int:
        """How many fires lie at or before `moment`: the index of the next one."""
        return max(0, (moment - self.anchor) // timedelta(seconds=self.seconds) + 1)


@dataclass(frozen=True)
class OneOffSchedule:
    """Fires once."""

    at: datetime

    def __post_init__(self) -> None:
        _keep_moments(self, "at")

    @property
    def end_at(self) -> datetime:
        return self.at

    def next(self, after: datetime) -> datetime | None:
        return self.at if self.at > after else None

    def fires_at(self, moment: datetime) -> bool:
        return moment == self.at

    def count(self, after: datetime, until: datetime, cap: int | None) -> int:
        total = int(after < self.at <= until)
        return total if cap is None else min(total, cap)

    def newest(self, after: datetime, until: datetime) -> Iterator[datetime]:
        return iter((self.at,) if after < self.at <= until else ())


Schedule = CronSchedule | IntervalSchedule | OneOffSchedule


def stored_schedule(
    cron: str | None,
    timezone: str,
    interval: timedelta | None,
    at: datetime | None,
    start_at: datetime | None,
    end_at: datetime | None,
) -> Schedule | None:
    """The rule that django-celery-beat's columns hold: the first of `cron`, `interval`
    and `at` that is there, or None. Raises `ScheduleInvalid` if nobody can read it."""
    if cron is not None:
        return CronSchedule(cron, timezone, start_at, end_at)
    if interval is not None:
        seconds = int(interval.total_seconds())
        return IntervalSchedule(seconds, cast("datetime", start_at), end_at)
    return None if at is None else OneOffSchedule(at)


def next_fire(schedule: Schedule, after: datetime) -> datetime | None:
    """The first nominal time strictly after `after`, or None if there is none left."""
    fire = schedule.next(after.astimezone(UTC))
    return None if fire is None or _is_over(schedule, fire) else fire


def fires_due(
    schedule: Schedule, cursor: datetime, now: datetime, limit: int
) -> tuple[list[datetime], datetime | None]:
    """The nominal times in [cursor, now], the oldest `limit` of them, and the one that
    follows. Each costs one step, and a cursor that is a fire costs none."""
    cursor = cursor.astimezone(UTC)
    is_fire = schedule.fires_at(cursor) and not _is_over(schedule, cursor)
    fire = cursor if is_fire else next_fire(schedule, cursor)
    fires: list[datetime] = []
    while fire is not None and fire <= now and len(fires) < limit:
        fires.append(fire)
        fire = next_fire(schedule, fire)
    return fires, fire


def _is_over(schedule: Schedule, at: datetime) -> bool:
    return schedule.end_at is not None and at > schedule.end_at


def next_fires(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """The first `count` nominal times strictly after `after`; fewer if it ends."""
    return list(islice(_fires(schedule, after), max(count, 0)))


def fires_between(
    schedule: Schedule, after: datetime, until: datetime, limit: int
) -> list[datetime]:
    """The nominal times in (after, until], the oldest `limit` of them."""
    fires: list[datetime] = []
    for fire in islice(_fires(schedule, after), max(limit, 0)):
        if fire > until:
            break
        fires.append(fire)
    return fires


def newest_fires(
    schedule: Schedule, after: datetime, until: datetime, count: int
) -> list[datetime]:
    """The nominal times in (after, until], the newest `count` of them, oldest first.

    Works back from `until`, so the cost follows `count` and not the window.
    """
    after, until = _window(schedule, after, until)
    return list(islice(schedule.newest(after, until), max(count, 0)))[::-1]


def count_fires(
    schedule: Schedule, after: datetime, until: datetime, cap: int | None = None
) -> int:
    """How many nominal times lie in (after, until], exactly; at most `cap` if given.

    O(1) for an interval; for cron, microseconds per day of the window.
    """
    after, until = _window(schedule, after, until)
    return schedule.count(after, until, cap)


def describe(schedule: Schedule) -> str:
    """Short English, such as "at 03:00 every day" or "every 15 minutes"."""
    match schedule:
        case CronSchedule():
            return describe_cron(schedule.expression)
        case IntervalSchedule():
            return _describe_seconds(schedule.seconds)
        case OneOffSchedule():
            return f"once at {schedule.at:%Y-%m-%d %H:%M:%S} UTC"


def warnings(schedule: Schedule, now: datetime) -> list[ScheduleWarning]:
    """What may surprise the author; changes of the clocks within the next 366 days."""
    found = list(_frequency_warnings(schedule))
    if isinstance(schedule, CronSchedule):
        found += calendar_warnings(schedule.expression)
        start = max(now, schedule.start_at or now).astimezone(UTC)
        after, until = _window(schedule, start, start + LOOK_AHEAD)
        found += clock_warnings(schedule.cron, after, until)
    if next_fire(schedule, now) is None:
        found.append(
            ScheduleWarning("no_fires_left", "it never fires again: its end is past")
        )
    return found


def _fires(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    fire = next_fire(schedule, after)
    while fire is not None:
        yield fire
        fire = next_fire(schedule, fire)


def _window(
    schedule: Schedule, after: datetime, until: datetime
) -> tuple[datetime, datetime]:
    """The window in UTC, cut at the schedule's end."""
    # Two datetimes of one zone compare and subtract by wall clock: hence UTC, first.
    after, until = after.astimezone(UTC), until.astimezone(UTC)
    return after, until if schedule.end_at is None else min(until, schedule.end_at)


def _frequency_warnings(schedule: Schedule) -> Iterator[ScheduleWarning]:
    match schedule:
        case CronSchedule():
            per_day = schedule.cron.fires_per_day
        case IntervalSchedule():
            per_day = 86_400 // schedule.seconds
        case OneOffSchedule():
            per_day = 1
    if per_day > FREQUENT_FIRES_PER_DAY:
        yield ScheduleWarning(
            "very_frequent", f"it fires {per_day:,} times a day; each fire is a run"
        )


def _describe_seconds(seconds: int) -> str:
    units = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)]
    unit, size = next((unit, size) for unit, size in units if seconds % size == 0)
    number = seconds // size
    return f"every {unit}" if number == 1 else f"every {number} {unit}s"


def _keep(schedule: Schedule, **fields: object) -> None:
    """Store normalised fields from `__post_init__`: the dataclasses are frozen."""
    for name, value in fields.items():
        object.__setattr__(schedule, name, value)


def _keep_moments(schedule: Schedule, *names: str) -> None:
    for name in names:
        value = getattr(schedule, name)
        optional = name in {"start_at", "end_at"}
        if not (optional and value is None):
            _keep(schedule, **{name: _moment(name, value)})


def _moment(field: str, value: object) -> datetime:
    """An instant in UTC. The year comes first: year 1 or 9999 overflows in UTC."""
    if not isinstance(value, datetime):
        raise ScheduleInvalid(field, "not_a_datetime", f"{field} is a date and time")
    if value.utcoffset() is None:
        raise ScheduleInvalid(
            field, "naive_datetime", f"{field} needs a UTC offset, such as Z or +02:00"
        )
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ScheduleInvalid(
            field, "out_of_range", f"{field} is in the years {FIRST_YEAR}-{LAST_YEAR}"
        )
    moment = value.astimezone(UTC)
    real = moment.astimezone(value.tzinfo)
    if real.replace(tzinfo=None) != value.replace(tzinfo=None):
        raise ScheduleInvalid(
            field,
            "imaginary_time",
            f"{value:%Y-%m-%d %H:%M} does not exist in {value.tzinfo}: the clocks jump"
            f" over it; use {real:%H:%M}",
        )
    return moment


def _check_order(field: str, start: datetime, end_at: datetime) -> None:
    if start >= end_at:
        raise ScheduleInvalid("end_at", "end_before_start", f"end_at is after {field}")


def _check_seconds(seconds: object) -> None:
    # type(), as True is an int. The value is not shown: 10**5000 cannot be printed.
    if type(seconds) is not int or not 1 <= seconds <= MAX_INTERVAL_SECONDS:
        raise ScheduleInvalid(
            "seconds",
            "out_of_range",
            f"an interval is a whole number of seconds, 1-{MAX_INTERVAL_SECONDS}"
            " (366 days)",
        )
