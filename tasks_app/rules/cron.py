"""Cron fires in a time zone: CronSim's calendar, Debian cron's daylight saving.

CronSim walks the calendar here on wall-clock times only; the step from a wall clock
to an instant is made in this module. CronSim 2.8's own step is not used, for three
reasons seen in tests: asked during the repeated hour it can answer with an earlier
instant, after a half-hour jump (Lord Howe) it loses the fires of the next half hour,
and it returns local times, which compare by wall clock.

The rule is Debian cron's (cron(8)):

- A fixed-time job, whose minute and hour both do not start with `*`, runs once: at the
  instant of the jump if its time falls in the gap, at the first pass in an overlap.
- Any other job follows the wall clock: nothing in a gap, twice in an overlap.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from cronsim import CronSim

from tasks_app.rules.zones import (
    DAY,
    SECOND,
    first_instant,
    instants,
    is_first_pass,
    jump_between,
    offset_at,
    parse_timezone,
    wall_clock,
)

TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class _Day:
    """One local day as the instants [start, end)."""

    date: date
    start: datetime
    end: datetime
    is_plain: bool  # 24 hours long, and no jump inside it or right before it

    def part_of(
        self, after: datetime, until: datetime
    ) -> tuple[datetime, datetime] | None:
        """The part of (after, until] in this day, if any."""
        low, high = max(after, self.start - TICK), min(until, self.end - TICK)
        return (low, high) if low < high else None


class Cron:
    """One accepted expression in one zone. Every instant in and out is UTC."""

    def __init__(self, expression: str, timezone: str) -> None:
        # Parsing is half the price of a fire (10 us), so it is paid once.
        self._sim = CronSim(expression, datetime(1970, 1, 1))  # noqa: DTZ001 - wall
        self.zone = parse_timezone(timezone)
        minute, hour = expression.split(" ")[:2]
        self.is_fixed_time = not (minute.startswith("*") or hour.startswith("*"))
        self.minutes = sorted(self._sim.minutes)
        self.hours = sorted(self._sim.hours)

    @property
    def fires_per_day(self) -> int:
        """On a day that matches and has no jump."""
        return len(self.minutes) * len(self.hours)

    def walls(self, after: datetime) -> Iterator[datetime]:
        """The wall-clock times that match, strictly after one."""
        sim = copy(self._sim)
        sim.dt = after.replace(microsecond=0)
        return sim

    def next(self, after: datetime) -> datetime | None:
        """The first fire strictly after an instant, or None within 50 years."""
        if self.is_fixed_time:
            return self._next_fixed(after)
        fire = self._next_running(wall_clock(after, self.zone), after + TICK)
        if is_first_pass(after, self.zone):
            return self._next_in_either_pass(after, fire)
        return fire

    def fires_at(self, moment: datetime) -> bool:
        """Whether an instant is a fire: much cheaper than to look for the next one."""
        wall = wall_clock(moment, self.zone)
        is_plain = instants(wall, self.zone) == (moment,)
        return (is_plain and self._shows(wall)) or self.next(moment - TICK) == moment

    def _shows(self, wall: datetime) -> bool:
        return (
            wall.minute in self._sim.minutes
            and wall.hour in self._sim.hours
            and self._matches(wall.date())
            and not (wall.second or wall.microsecond)
        )

    def _next_fixed(self, after: datetime) -> datetime | None:
        for wall in self.walls(wall_clock(after, self.zone)):
            fire = first_instant(wall, self.zone)
            if fire > after:
                return fire
        return None

    def _next_running(self, wall: datetime, not_before: datetime) -> datetime | None:
        for candidate in self.walls(wall):
            for fire in instants(candidate, self.zone):
                if fire >= not_before:
                    return fire
        return None

    def _next_in_either_pass(
        self, after: datetime, fire: datetime | None
    ) -> datetime | None:
        """`fire`, unless the clock first goes back and passes a match again."""
        back = jump_between(after, after + DAY, self.zone)
        if fire is not None and fire < back:
            return fire
        return self._next_running(wall_clock(back, self.zone) - SECOND, back)

    def count(self, after: datetime, until: datetime, cap: int | None = None) -> int:
        """How many fires lie in (after, until], at most `cap`.

        A plain day is counted by arithmetic, so a year of `* * * * *` costs about two
        milliseconds; only days with a jump are walked.
        """
        total = 0
        day = self._day(wall_clock(after, self.zone).date())
        while day.start <= until:
            part = day.part_of(after, until)
            total += self._count_on(day, *part) if part else 0
            if cap is not None and total >= cap:
                return cap
            day = self._day(day.date + DAY)
        return total

    def newest(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The fires in (after, until], from the newest back."""
        # One day ahead: a clock set back over midnight shows yesterday's date again.
        day = self._day(wall_clock(until, self.zone).date() + DAY)
        while day.end > after:
            part = day.part_of(after, until)
            if part:
                yield from self._backwards_on(day, *part)
            day = self._day(day.date - DAY)

    def _day(self, day: date) -> _Day:
        start = first_instant(datetime.combine(day, time()), self.zone)
        end = first_instant(datetime.combine(day + DAY, time()), self.zone)
        is_plain = end - start == DAY and (
            offset_at(self.zone, start - SECOND) == offset_at(self.zone, end - SECOND)
        )
        return _Day(day, start, end, is_plain)

    def _count_on(self, day: _Day, after: datetime, until: datetime) -> int:
        if not day.is_plain:
            return sum(1 for _ in self._walk(after, until))
        if not self._matches(day.date):
            return 0
        return self._rank(until - day.start) - self._rank(after - day.start)

    def _backwards_on(
        self, day: _Day, after: datetime, until: datetime
    ) -> Iterator[datetime]:
        if not day.is_plain:
            yield from reversed(list(self._walk(after, until)))
        elif self._matches(day.date):
            last_hour = (until - day.start) // timedelta(hours=1)
            for hour in reversed([each for each in self.hours if each <= last_hour]):
                for minute in reversed(self.minutes):
                    fire = day.start + timedelta(hours=hour, minutes=minute)
                    if fire <= after:
                        return
                    if fire <= until:
                        yield fire

    def _walk(self, after: datetime, until: datetime) -> Iterator[datetime]:
        fire = self.next(after)
        while fire is not None and fire <= until:
            yield fire
            fire = self.next(fire)

    def _matches(self, day: date) -> bool:
        return day.month in self._sim.months and self._sim.match_day(day)

    def _rank(self, since_midnight: timedelta) -> int:
        """How many of a matching day's fires come at or before a time of day."""
        minute_of_day = since_midnight // timedelta(minutes=1)
        hour, minute = divmod(minute_of_day, 60)
        whole_hours = sum(1 for each in self.hours if each < hour)
        rank = whole_hours * len(self.minutes)
        if hour in self.hours:
            rank += sum(1 for each in self.minutes if each <= minute)
        return rank


@functools.lru_cache(maxsize=1024)
def compiled(expression: str, timezone: str) -> Cron:
    """The parsed form. A Cron takes up to 10 KB, so the cache stays under 10 MB."""
    return Cron(expression, timezone)
