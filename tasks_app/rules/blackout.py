"""Blackout calendars: when no fire may start, and when that is over.

A calendar holds windows of two kinds: from one moment until another, and for so long
after each fire of a cron expression, which follows the rules of `cron` for daylight
saving. Every window is [start, end): a fire at its end runs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import islice, pairwise
from typing import Any, Literal
from zoneinfo import ZoneInfo

from tasks_app.rules.cron import TICK, Cron, compiled
from tasks_app.rules.cron_text import parse_cron
from tasks_app.rules.errors import ScheduleInvalid
from tasks_app.rules.zones import (
    DAY,
    SECOND,
    first_instant,
    instants,
    offset_at,
    parse_timezone,
    wall_clock,
)

Action = Literal["skip", "postpone"]

MAX_WINDOWS = 100
MAX_DURATION = timedelta(days=366)
LOOK_AHEAD = timedelta(days=400)
MAX_STEPS = 2_000
"""Windows followed to find an end: two a day for the whole look-ahead, and some."""
FIRST_YEAR, LAST_YEAR = 1970, 2200

_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


@dataclass(frozen=True)
class WindowProblem:
    """One wrong field: its path below `windows`, a stable code, a sentence."""

    path: tuple[str, ...]
    code: str
    message: str


class WindowsInvalid(ValueError):
    """The windows of a calendar cannot be accepted."""

    code = "windows_invalid"

    def __init__(self, problems: Iterable[WindowProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "; ".join(f"{'/'.join(p.path)}: {p.message}" for p in self.problems)
        )


@dataclass(frozen=True)
class FixedWindow:
    """From one instant until another, once; both in UTC."""

    start: datetime
    end: datetime

    def end_at(self, at: datetime) -> datetime | None:
        return self.end if self.start <= at < self.end else None

    def next_start(self, after: datetime) -> datetime | None:
        return self.start if self.start > after else None


@dataclass(frozen=True)
class CronWindow:
    """For `duration` after each fire of a cron expression in normal form."""

    expression: str
    timezone: str
    duration: timedelta

    def end_at(self, at: datetime) -> datetime | None:
        """An end of the windows in force at `at`, or None if there is none.

        It may be that of a later window which begins before these are over.
        """
        return _end_of_cron_window(self, at)

    def next_start(self, after: datetime) -> datetime | None:
        return compiled(self.expression, self.timezone).next(after)


Window = FixedWindow | CronWindow


@dataclass(frozen=True)
class BlackoutCalendar:
    """A calendar as it applies: `windows` come from `parse_windows`."""

    name: str
    action: Action
    windows: tuple[Window, ...]

    def covers(self, at: datetime) -> bool:
        return any(window.end_at(at) is not None for window in self.windows)


@dataclass(frozen=True)
class Blackout:
    """What a calendar does to a fire; `until` is None if no end is in sight."""

    calendar: str
    action: Action
    until: datetime | None


@dataclass(frozen=True)
class BlackoutSpan:
    """[start, end) without a break; `end` is None if no end is in sight."""

    start: datetime
    end: datetime | None


def parse_windows(raw: Any, timezone: str) -> tuple[Window, ...]:
    """Read the windows of a calendar in the zone `timezone`, from JSON.

    `{"from": "2026-12-24T00:00", "until": "2026-12-27T00:00"}`: times without an offset
    are the calendar's; in an hour that the clocks repeat, from is its first pass and
    until its second; a time that they jump over is the instant of the jump.
    `{"cron": "0 22 * * 1-5", "duration_seconds": 28800}`: each fire begins a window.

    Raises WindowsInvalid with every problem, or ScheduleInvalid for the time zone.
    """
    zone = parse_timezone(timezone)
    if not isinstance(raw, list):
        raise WindowsInvalid([WindowProblem((), "not_a_list", "windows are a list")])
    if len(raw) > MAX_WINDOWS:
        message = f"at most {MAX_WINDOWS} windows, here are {len(raw)}"
        raise WindowsInvalid([WindowProblem((), "too_many", message)])
    problems: list[WindowProblem] = []
    windows: list[Window] = []
    for index, item in enumerate(raw):
        try:
            windows.append(_window(item, zone))
        except WindowsInvalid as error:
            problems += [
                WindowProblem((str(index), *each.path), each.code, each.message)
                for each in error.problems
            ]
    if problems:
        raise WindowsInvalid(problems)
    return tuple(windows)


def blackout_at(calendars: Sequence[BlackoutCalendar], at: datetime) -> Blackout | None:
    """What `calendars` together do to a fire at `at`, or None if it may run.

    Skip wins over postpone, and names the first calendar that does it. `until` ends the
    windows that overlap or touch: for a skip those of the skipping calendars, for a
    postponement those of all, as the fire may land in none. It is None if that is not
    within 400 days or 2000 windows. Costs about 50 us for each recurring window,
    and a tenth of it for the next fire at the same time.
    """
    at = at.astimezone(UTC)
    covering = [calendar for calendar in calendars if calendar.covers(at)]
    if not covering:
        return None
    skipping = [calendar for calendar in covering if calendar.action == "skip"]
    named = (skipping or covering)[0]
    windows = [
        window
        for calendar in calendars
        if calendar.action == "skip" or not skipping
        for window in calendar.windows
    ]
    return Blackout(named.name, named.action, _end_of_union(windows, at))


def next_blackouts(
    calendar: BlackoutCalendar, now: datetime, count: int
) -> list[BlackoutSpan]:
    """The first `count` spans from `now` on; one in force at `now` begins there."""
    return list(islice(_spans(calendar.windows, now.astimezone(UTC)), max(count, 0)))


def _spans(windows: Sequence[Window], now: datetime) -> Iterator[BlackoutSpan]:
    start: datetime | None = now
    while start is not None:
        end = _end_of_union(windows, start)
        if end != start:
            yield BlackoutSpan(start, end)
        if end is None:
            return
        starts = [window.next_start(end) for window in windows]
        start = min((each for each in starts if each is not None), default=None)


def _end_of_union(windows: Sequence[Window], at: datetime) -> datetime | None:
    """Where the windows in force at `at`, and those they lead to, leave a gap."""
    end = at
    for _ in range(MAX_STEPS):
        ends = [window.end_at(end) for window in windows]
        latest = max((each for each in ends if each is not None), default=None)
        if latest is None:
            return end
        end = latest
        if end > at + LOOK_AHEAD:
            return None
    return None


@functools.lru_cache(maxsize=4096)  # many tasks fire at one time under one calendar
def _end_of_cron_window(window: CronWindow, at: datetime) -> datetime | None:
    cron, after = compiled(window.expression, window.timezone), at - window.duration
    # The next fire is cheaper to find than the last, and mostly says no.
    fire = cron.next(after)
    if fire is None or fire > at:
        return None
    fire = next(cron.newest(fire, at), fire)
    return _last_of_day(cron, fire, window.duration) + window.duration


def _last_of_day(cron: Cron, fire: datetime, duration: timedelta) -> datetime:
    """The day's last fire if windows cover the time until it, else `fire`.

    Without it the 1440 windows of a day of `* * * * *` were followed one by one.
    """
    if cron.fires_per_day == 1 or duration < _longest_gap(cron):
        return fire
    day = wall_clock(fire, cron.zone).date()
    end = first_instant(datetime.combine(day + DAY, time()), cron.zone)
    if offset_at(cron.zone, fire - SECOND) != offset_at(cron.zone, end - SECOND):
        return fire
    return next(cron.newest(fire, end - TICK), fire)


def _longest_gap(cron: Cron) -> timedelta:
    """The longest time between two fires that follow each other on a day."""
    in_hour = [later - minute for minute, later in pairwise(cron.minutes)]
    over_hours = [
        60 * (later - hour) - (cron.minutes[-1] - cron.minutes[0])
        for hour, later in pairwise(cron.hours)
    ]
    return timedelta(minutes=max([*in_hour, *over_hours], default=0))


def _window(item: Any, zone: ZoneInfo) -> Window:
    if not isinstance(item, Mapping):
        raise _refused("", "not_an_object", "a window is an object")
    fields = {"cron", "duration_seconds"} if "cron" in item else {"from", "until"}
    problems = [
        WindowProblem((str(name)[:40],), "unknown_field", _expected(fields))
        for name in item
        if name not in fields
    ]
    problems += [
        WindowProblem((name,), "required", "is required")
        for name in sorted(fields)
        if name not in item
    ]
    if problems:
        raise WindowsInvalid(problems)
    return _cron_window(item, zone) if "cron" in item else _fixed_window(item, zone)


def _expected(fields: Iterable[str]) -> str:
    return f"such a window has {' and '.join(sorted(fields))} only"


def _cron_window(item: Mapping[str, Any], zone: ZoneInfo) -> Window:
    problems: list[WindowProblem] = []
    expression, seconds = item["cron"], item["duration_seconds"]
    try:
        if not isinstance(expression, str):
            raise _refused("cron", "not_a_text", "cron is a text, as 0 22 * * 1-5")
        expression = parse_cron(expression)
    except ScheduleInvalid as error:
        problems.append(WindowProblem(("cron",), error.code, error.message))
    except WindowsInvalid as error:
        problems += error.problems
    longest = MAX_DURATION // SECOND
    # type(), as True is an int. The value is not shown: 10**5000 cannot be printed.
    if type(seconds) is not int or not 1 <= seconds <= longest:
        message = f"a duration is a whole number of seconds, 1-{longest} (366 days)"
        problems.append(WindowProblem(("duration_seconds",), "out_of_range", message))
    if problems:
        raise WindowsInvalid(problems)
    return CronWindow(expression, zone.key, timedelta(seconds=seconds))


def _fixed_window(item: Mapping[str, Any], zone: ZoneInfo) -> Window:
    problems: list[WindowProblem] = []
    moments: list[datetime] = []
    for name in ("from", "until"):
        try:
            moments.append(_moment(name, item[name], zone))
        except WindowsInvalid as error:
            problems += error.problems
    if problems:
        raise WindowsInvalid(problems)
    start, end = moments
    if start >= end:
        raise _refused("until", "end_before_start", "until is after from")
    if end - start > MAX_DURATION:
        raise _refused("until", "too_long", "a window lasts at most 366 days")
    return FixedWindow(start, end)


def _moment(name: str, value: Any, zone: ZoneInfo) -> datetime:
    """The instant in UTC that a text of a window means."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise _refused(
            name, "bad_moment", f"{name} is a date and time, as 2026-12-24T18:00"
        )
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        message = f"{value} does not exist: {error}"
        raise _refused(name, "bad_moment", message) from error
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        message = f"{name} is in the years {FIRST_YEAR}-{LAST_YEAR}"
        raise _refused(name, "out_of_range", message)
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    passes = instants(moment, zone)
    if name == "until" and passes:
        return passes[-1]
    return first_instant(moment, zone)


def _refused(name: str, code: str, message: str) -> WindowsInvalid:
    return WindowsInvalid([WindowProblem((name,) if name else (), code, message)])
