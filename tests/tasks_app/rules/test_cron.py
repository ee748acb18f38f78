"""Cron against a brute-force scan of every minute, around changes of the clocks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.rules.cron import Cron, compiled

MINUTE = timedelta(minutes=1)

# Windows of three days and a half around a change: an hour forward and back, at two
# and at midnight, half an hour (Lord Howe), none (the last).
WINDOWS = [
    ("Europe/Kyiv", datetime(2026, 3, 28, tzinfo=UTC)),
    ("Europe/Kyiv", datetime(2026, 10, 24, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 31, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 22, 12, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 10, 28, 12, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 3, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 2, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 11, 6, tzinfo=UTC)),  # back over midnight
    ("Pacific/Apia", datetime(2011, 12, 29, tzinfo=UTC)),  # a day that never was
    ("Asia/Kathmandu", datetime(2026, 6, 1, tzinfo=UTC)),
]
LENGTH = timedelta(days=3, hours=12)


@dataclass(frozen=True)
class FieldCase:
    """A field's text and, written independently, the values it stands for."""

    text: str
    values: frozenset[int]


def _field_cases(high: int) -> st.SearchStrategy[FieldCase]:
    numbers = st.integers(0, high)
    lists = st.sets(numbers, min_size=1, max_size=4).map(
        lambda chosen: FieldCase(",".join(map(str, chosen)), frozenset(chosen))
    )
    steps = st.integers(2, high).map(
        lambda step: FieldCase(f"*/{step}", frozenset(range(0, high + 1, step)))
    )
    ranges = st.tuples(numbers, numbers).map(
        lambda ends: FieldCase(
            f"{min(ends)}-{max(ends)}", frozenset(range(min(ends), max(ends) + 1))
        )
    )
    return lists | steps | ranges | st.just(FieldCase("*", frozenset(range(high + 1))))


@cache
def _wall_table(zone: str, start: datetime) -> dict[datetime, list[datetime]]:
    """Each wall-clock minute that happens, with the instants it happens at."""
    table = defaultdict(list)
    moment = start - timedelta(days=2)
    while moment < start + LENGTH + timedelta(days=2):
        wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
        table[wall].append(moment)
        moment += MINUTE
    return table


def _brute_force(
    matches: Callable[[datetime], bool], zone: str, start: datetime, *, is_fixed: bool
) -> list[datetime]:
    """Debian cron's rule, minute by minute; the fires in (start, start + LENGTH]."""
    table = _wall_table(zone, start)
    fires: set[datetime] = set()
    wall, last = min(table), max(table)
    waiting = False  # a fixed-time job whose minute was jumped over
    while wall <= last:
        happens = table.get(wall, [])
        if happens and waiting:
            fires.add(happens[0])
            waiting = False
        if matches(wall):
            fires.update(happens[:1] if is_fixed else happens)
            waiting = waiting or (is_fixed and not happens)
        wall += MINUTE
    return sorted(fire for fire in fires if start < fire <= start + LENGTH)


def _all_fires(cron: Cron, after: datetime, until: datetime) -> list[datetime]:
    fires: list[datetime] = []
    fire = cron.next(after)
    while fire is not None and fire <= until:
        fires.append(fire)
        fire = cron.next(fire)
    return fires


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(WINDOWS), _field_cases(59), _field_cases(23))
def test_fires_agree_with_a_scan_of_every_minute(
    window: tuple[str, datetime], minutes: FieldCase, hours: FieldCase
) -> None:
    zone, start = window
    cron = Cron(f"{minutes.text} {hours.text} * * *", zone)
    expected = _brute_force(
        lambda wall: wall.minute in minutes.values and wall.hour in hours.values,
        is_fixed=not (minutes.text[0] == "*" or hours.text[0] == "*"),
        zone=zone,
        start=start,
    )

    assert _all_fires(cron, start, start + LENGTH) == expected
    assert cron.count(start, start + LENGTH) == len(expected)
    assert list(cron.newest(start, start + LENGTH)) == expected[::-1]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(WINDOWS),
    _field_cases(59),
    _field_cases(23),
    st.integers(0, int(LENGTH.total_seconds())),
    st.integers(0, int(LENGTH.total_seconds())),
)
def test_counting_and_going_back_agree_with_walking_in_any_window(
    window: tuple[str, datetime],
    minutes: FieldCase,
    hours: FieldCase,
    first: int,
    second: int,
) -> None:
    zone, start = window
    cron = Cron(f"{minutes.text} {hours.text} * * *", zone)
    after = start + timedelta(seconds=min(first, second), microseconds=1)
    until = start + timedelta(seconds=max(first, second))
    expected = _all_fires(cron, after, until)

    assert cron.count(after, until) == len(expected)
    assert list(cron.newest(after, until)) == expected[::-1]


@pytest.mark.parametrize("minutes", [1, 15, 45, 59, 61, 75, 119])
def test_a_clock_set_back_over_midnight_loses_no_fire(minutes: int) -> None:
    """At 00:01 on 7 November 2010 it became 23:01 on the 6th: an old date again."""
    cron = Cron("*/5 * * * *", "America/St_Johns")
    midnight = datetime(2010, 11, 7, 2, 30, tzinfo=UTC)
    for after, until in [
        (midnight, midnight + minutes * MINUTE),
        (midnight + minutes * MINUTE, midnight + timedelta(hours=3)),
    ]:
        expected = _all_fires(cron, after, until)

        assert cron.count(after, until) == len(expected)
        assert list(cron.newest(after, until)) == expected[::-1]


EXAMPLES = [
    # expression     zone           after (UTC)         the next fires (UTC)
    # A fixed time in the gap runs at the jump, and only once with its neighbours.
    ("30 3 * * *", "Europe/Kyiv", "2026-03-28T12:00", "29T01:00 30T00:30"),
    ("15,45 3 * * *", "Europe/Kyiv", "2026-03-28T12:00", "29T01:00 30T00:15"),
    ("0 3,4 * * *", "Europe/Kyiv", "2026-03-28T12:00", "29T01:00 30T00:00"),
    # A fixed time in the overlap runs at its first pass, also if asked in the second.
    ("30 3 * * *", "Europe/Kyiv", "2026-10-24T12:00", "25T00:30 26T01:30"),
    ("45 3 * * *", "Europe/Kyiv", "2026-10-25T01:30", "26T01:45 27T01:45"),
    # Others follow the wall clock: twice in the overlap, never in the gap.
    ("*/30 3 * * *", "Europe/Kyiv", "2026-10-25T00:00", "25T00:30 25T01:00 25T01:30"),
    ("*/30 3 * * *", "Europe/Kyiv", "2026-03-28T12:00", "30T00:00 30T00:30"),
    ("*/30 * * * *", "Europe/Kyiv", "2026-03-29T00:30", "29T01:00 29T01:30"),
    # CronSim's own step from wall clock to instant loses these half hours.
    ("*/15 3 * * *", "Australia/Lord_Howe", "2026-10-03T15:45", "03T16:00 03T16:15"),
    # Day of month and day of week: either, unless one starts with a star.
    ("0 0 13 * FRI", "UTC", "2026-06-10T00:00", "12T00:00 13T00:00 19T00:00"),
    ("0 0 */2 * FRI", "UTC", "2026-06-01T00:00", "05T00:00 19T00:00"),
    # The last day, the last Friday, the second Monday.
    ("0 0 L * *", "UTC", "2026-06-01T00:00", "30T00:00"),
    ("0 0 * * 5L", "UTC", "2026-06-01T00:00", "26T00:00"),
    ("0 0 * * MON#2", "UTC", "2026-06-01T00:00", "08T00:00"),
    # Strictly after, to the microsecond.
    ("0 3 * * *", "UTC", "2026-06-01T03:00", "02T03:00"),
    ("0 3 * * *", "UTC", "2026-06-01T02:59:59.999999", "01T03:00"),
]


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), EXAMPLES)
def test_it_fires_as_debian_cron_does(
    expression: str, zone: str, after: str, expected: str
) -> None:
    start = datetime.fromisoformat(after).replace(tzinfo=UTC)
    fires = _all_fires(Cron(expression, zone), start, start + timedelta(days=31))

    wanted = expected.split()
    assert [f"{fire:%dT%H:%M}" for fire in fires[: len(wanted)]] == wanted
    assert all(fire.tzinfo is UTC for fire in fires)


def test_a_leap_day_is_found_across_1900_style_years() -> None:
    cron = Cron("0 0 29 2 *", "UTC")

    fire = cron.next(datetime(2096, 3, 1, tzinfo=UTC))

    assert fire == datetime(2104, 2, 29, tzinfo=UTC)


def test_a_year_of_minutes_is_counted_in_milliseconds() -> None:
    cron = Cron("* * * * *", "Europe/Kyiv")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    started = time.process_time()

    count = cron.count(start, start + timedelta(days=365))

    assert count == 365 * 1440
    assert time.process_time() - started < 0.2
    assert cron.count(start, start + timedelta(days=365), cap=500) == 500


def test_the_parsed_form_is_kept() -> None:
    assert compiled("0 3 * * *", "UTC") is compiled("0 3 * * *", "UTC")
