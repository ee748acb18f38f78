from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.rules.blackout import (
    MAX_WINDOWS,
    Action,
    Blackout,
    BlackoutCalendar,
    BlackoutSpan,
    CronWindow,
    FixedWindow,
    Window,
    WindowsInvalid,
    blackout_at,
    next_blackouts,
    parse_windows,
)
from tasks_app.rules.schedules import CronSchedule, ScheduleInvalid, fires_between

BERLIN = ZoneInfo("Europe/Berlin")
TICK, HOUR, DAY = timedelta(microseconds=1), timedelta(hours=1), timedelta(days=1)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)  # a Monday
NIGHTS = {"cron": "0 22 * * 1-5", "duration_seconds": 28_800}
CHRISTMAS = {"from": "2026-12-24T00:00:00", "until": "2026-12-27T00:00:00"}


def _calendar(
    *windows: dict[str, Any],
    name: str = "nights",
    action: Action = "postpone",
    timezone: str = "UTC",
) -> BlackoutCalendar:
    return BlackoutCalendar(name, action, parse_windows(list(windows), timezone))


def _daily(hour: int, hours: float) -> dict[str, Any]:
    return {"cron": f"0 {hour} * * *", "duration_seconds": int(hours * 3600)}


def _june(day: int, clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-06-{day:02}T{clock}+00:00")


# --- what can be written ----------------------------------------------------------


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


MOMENTS = [
    # from, until (Europe/Berlin)                     in UTC
    ("2026-12-24T00:00:00", "2026-12-27T00:00:00", "12-23T23:00", "12-26T23:00"),
    ("2026-12-24T00:00", "2026-12-24 18:30", "12-23T23:00", "12-24T17:30"),
    ("2026-07-01T00:00Z", "2026-07-02T00:00:00+05:30", "07-01T00:00", "07-01T18:30"),
    # Both passes of the hour that the clocks repeat belong to the window.
    ("2026-10-25T02:30", "2026-10-25T02:45", "10-25T00:30", "10-25T01:45"),
    # A time in the gap is the jump.
    ("2026-03-29T02:30", "2026-03-29T04:00", "03-29T01:00", "03-29T02:00"),
]


@pytest.mark.parametrize(("start", "until", "utc_start", "utc_end"), MOMENTS)
def test_a_time_without_offset_is_the_calendars(
    start: str, until: str, utc_start: str, utc_end: str
) -> None:
    windows = parse_windows([{"from": start, "until": until}], "Europe/Berlin")

    assert windows == (FixedWindow(_utc(f"2026-{utc_start}"), _utc(f"2026-{utc_end}")),)


def test_a_recurring_window_holds_normal_forms() -> None:
    windows = parse_windows(
        [{"cron": " 0  22 * * mon-fri", "duration_seconds": 60}], "Europe/Berlin"
    )

    minute = timedelta(seconds=60)
    assert windows == (CronWindow("0 22 * * MON-FRI", "Europe/Berlin", minute),)


def _fixed(start: Any, until: Any) -> dict[str, Any]:
    return {"from": start, "until": until}


def _cron(expression: Any, seconds: Any) -> dict[str, Any]:
    return {"cron": expression, "duration_seconds": seconds}


MIDNIGHT, NEXT = "2026-12-24T00:00", "2026-12-25T00:00"
REFUSED: list[tuple[Any, str, str]] = [
    # windows                                  path                    code
    ("nights", "", "not_a_list"),
    (None, "", "not_a_list"),
    ([NIGHTS] * (MAX_WINDOWS + 1), "", "too_many"),
    (["nights"], "0", "not_an_object"),
    ([{}], "0/from 0/until", "required"),
    ([{"from": MIDNIGHT}], "0/until", "required"),
    ([{"cron": "0 22 * * *"}], "0/duration_seconds", "required"),
    ([NIGHTS, CHRISTMAS | {"name": "x"}], "1/name", "unknown_field"),
    ([NIGHTS | {"from": MIDNIGHT}], "0/from", "unknown_field"),
    ([_fixed("2026-12-24", NEXT)], "0/from", "bad_moment"),  # until when on that day?
    ([_fixed("tomorrow", NEXT)], "0/from", "bad_moment"),
    ([_fixed(5, NEXT)], "0/from", "bad_moment"),
    ([_fixed("x" * 5000, NEXT)], "0/from", "bad_moment"),
    ([_fixed("2026-02-30T00:00", NEXT)], "0/from", "bad_moment"),
    ([_fixed("2026-12-24T00:00+25:00", NEXT)], "0/from", "bad_moment"),
    ([_fixed("0001-01-01T00:00+14:00", NEXT)], "0/from", "out_of_range"),
    ([_fixed("9999-12-31T23:00-12:00", NEXT)], "0/from", "out_of_range"),
    ([_fixed(MIDNIGHT, MIDNIGHT)], "0/until", "end_before_start"),
    ([_fixed(NEXT, MIDNIGHT)], "0/until", "end_before_start"),
    ([_fixed(MIDNIGHT, "2027-12-26T00:00")], "0/until", "too_long"),
    ([_fixed("", "")], "0/from 0/until", "bad_moment"),
    ([_cron("61 * * * *", 60)], "0/cron", "out_of_range"),
    ([_cron("0 0 30 2 *", 60)], "0/cron", "never_fires"),
    ([_cron(7, 60)], "0/cron", "not_a_text"),
    ([_cron("0 22 * * *", 0)], "0/duration_seconds", "out_of_range"),
    ([_cron("0 22 * * *", 1.5)], "0/duration_seconds", "out_of_range"),
    ([_cron("0 22 * * *", 2 > 1)], "0/duration_seconds", "out_of_range"),
    ([_cron("0 22 * * *", 10**5000)], "0/duration_seconds", "out_of_range"),
    ([_cron("0 22 * * *", 366 * 86_400 + 1)], "0/duration_seconds", "out_of_range"),
    ([_cron("99 * * * *", 0)], "0/cron 0/duration_seconds", "out_of_range"),
    (
        [NIGHTS, _cron("99 * * * *", 9), _cron("* 24 * * *", 9)],
        "1/cron 2/cron",
        "out_of_range",
    ),
]


@pytest.mark.parametrize(("raw", "paths", "code"), REFUSED)
def test_each_wrong_field_is_named(raw: Any, paths: str, code: str) -> None:
    with pytest.raises(WindowsInvalid) as caught:
        parse_windows(raw, "Europe/Berlin")

    problems = caught.value.problems
    assert ["/".join(problem.path) for problem in problems] == (paths.split() or [""])
    assert {problem.code for problem in problems} == {code}
    assert all(0 < len(problem.message) < 200 for problem in problems)


def test_an_unknown_time_zone_is_the_zones_own_error() -> None:
    with pytest.raises(ScheduleInvalid, match="did you mean"):
        parse_windows([NIGHTS], "Europe/Berlim")


# --- when a fire may not start ----------------------------------------------------

WEEKNIGHTS = _calendar(NIGHTS)

COVERED = [
    # calendar                                         at                  until
    (WEEKNIGHTS, _june(1, "22:00"), _june(2, "06:00")),
    (WEEKNIGHTS, _june(1, "22:00") - TICK, None),
    (WEEKNIGHTS, _june(2, "06:00") - TICK, _june(2, "06:00")),
    (WEEKNIGHTS, _june(2, "06:00"), None),  # the end is not in it
    (WEEKNIGHTS, _june(6, "03:00"), _june(6, "06:00")),  # Friday's
    (WEEKNIGHTS, _june(6, "23:00"), None),  # Saturday
    # windows that touch, overlap, and are nested
    (_calendar(_daily(1, 2), _daily(3, 1)), _june(1, "01:30"), _june(1, "04:00")),
    (_calendar(_daily(3, 1), _daily(1, 2.5)), _june(1, "01:30"), _june(1, "04:00")),
    (_calendar(_daily(1, 8), _daily(3, 1)), _june(1, "03:30"), _june(1, "09:00")),
    (_calendar(_daily(1, 1), _daily(3, 1)), _june(1, "01:30"), _june(1, "02:00")),
    # a duration longer than the period of the cron
    (_calendar(_cron("0 9-11 * * *", 9000)), _june(1, "09:30"), _june(1, "13:30")),
    (_calendar(_cron("0 0 * * 6", 50 * 3600)), _june(7, "12:00"), _june(8, "02:00")),
    # a window for each minute is one window
    (_calendar(_cron("* * * * 0,6", 60)), _june(6, "12:00"), _june(8, "00:00")),
    (_calendar(_cron("*/2 8,9 * * *", 60)), _june(1, "08:00:30"), _june(1, "08:01")),
    (_calendar(), _june(1, "12:00"), None),
]


@pytest.mark.parametrize(("calendar", "at", "until"), COVERED)
def test_a_blackout_lasts_until_its_windows_leave_a_gap(
    calendar: BlackoutCalendar, at: datetime, until: datetime | None
) -> None:
    expected = until and Blackout("nights", "postpone", until)

    assert blackout_at([calendar], at) == expected


CLOCK_CHANGES = [
    # Europe/Berlin: 02:00 becomes 03:00 on 29 March, 03:00 becomes 02:00 on 25 October
    ("2026-03-28T22:30", _daily(22, 8), "2026-03-29T07:00"),  # eight real hours
    ("2026-10-24T22:30", _daily(22, 8), "2026-10-25T05:00"),
    ("2026-03-29T03:10", _cron("30 2 * * *", 1800), "2026-03-29T03:30"),  # at the jump
    ("2026-10-25T01:59", _cron("* 1-3 * * *", 60), "2026-10-25T04:00"),  # both passes
]


@pytest.mark.parametrize(("at", "window", "until"), CLOCK_CHANGES)
def test_a_recurring_window_begins_by_the_clock_and_lasts_real_time(
    at: str, window: dict[str, Any], until: str
) -> None:
    calendar = _calendar(window, timezone="Europe/Berlin")

    blackout = blackout_at(
        [calendar], datetime.fromisoformat(at).replace(tzinfo=BERLIN)
    )

    assert blackout is not None
    assert blackout.until == datetime.fromisoformat(until).replace(
        tzinfo=BERLIN
    ).astimezone(UTC)


ENDLESS = [
    [_daily(0, 24)],
    [_cron("* * * * *", 60)],
    [_cron("0 * * * *", 7200)],
    [_cron("0 0 1 * *", 31 * 86_400)],
    [_daily(0, 12), _daily(12, 12)],
    [_cron("*/2 * * * *", 60), _cron("1-59/2 * * * *", 60)],
]


@pytest.mark.parametrize("windows", ENDLESS)
def test_windows_that_never_leave_a_gap_have_no_end(
    windows: list[dict[str, Any]],
) -> None:
    calendar = _calendar(*windows)

    blackout = blackout_at([calendar], _june(3, "12:00"))

    assert blackout == Blackout("nights", "postpone", None)


def test_skip_wins_over_postpone_and_ends_with_the_skipping_windows() -> None:
    postpone = _calendar(_daily(0, 6), name="backup")
    skip = _calendar(_daily(2, 1), name="freeze", action="skip")

    assert blackout_at([postpone, skip], _june(1, "02:30")) == Blackout(
        "freeze", "skip", _june(1, "03:00")
    )


def test_a_postponed_fire_lands_in_no_window_of_another_calendar() -> None:
    postpone = _calendar(_daily(0, 2), name="backup")
    skip = _calendar(_daily(2, 1), name="freeze", action="skip")
    later = _calendar(_daily(3, 1), name="load")

    assert blackout_at([later, postpone, skip], _june(1, "01:00")) == Blackout(
        "backup", "postpone", _june(1, "04:00")
    )


def test_without_calendars_every_fire_may_run() -> None:
    assert blackout_at([], JUNE) is None


# --- the preview ------------------------------------------------------------------


def test_the_preview_begins_with_the_blackout_in_force() -> None:
    assert next_blackouts(WEEKNIGHTS, _june(5, "23:00"), 3) == [
        BlackoutSpan(_june(5, "23:00"), _june(6, "06:00")),
        BlackoutSpan(_june(8, "22:00"), _june(9, "06:00")),
        BlackoutSpan(_june(9, "22:00"), _june(10, "06:00")),
    ]


def test_the_preview_stops_where_nothing_follows() -> None:
    past_and_to_come = _calendar(
        _fixed("2026-05-01T00:00", "2026-05-02T00:00"), CHRISTMAS
    )

    spans = next_blackouts(past_and_to_come, JUNE, 5)

    assert spans == [BlackoutSpan(_utc("2026-12-24T00:00"), _utc("2026-12-27T00:00"))]
    assert next_blackouts(past_and_to_come, JUNE, 0) == []
    assert next_blackouts(_calendar(_daily(12, 24)), JUNE + 13 * HOUR, 5) == [
        BlackoutSpan(JUNE + 13 * HOUR, None)
    ]


# --- against windows laid out one by one ------------------------------------------

fixed_windows = st.builds(
    lambda start, length: FixedWindow(
        JUNE + start * HOUR / 2, JUNE + (start + length) * HOUR / 2
    ),
    st.integers(0, 300),
    st.integers(1, 60),
)
cron_windows = st.builds(
    CronWindow,
    st.sampled_from(
        ["0 22 * * 1-5", "30 2 * * *", "0 8-17 * * *", "*/30 6-9,20 * * *", "0 0 * * 6"]
    ),
    st.sampled_from(["UTC", "Europe/Berlin"]),
    st.integers(1, 60).map(lambda halves: halves * HOUR / 2),
)
calendars = st.lists(
    st.builds(
        BlackoutCalendar,
        st.sampled_from("abc"),
        st.sampled_from(["skip", "postpone"]),
        st.lists(fixed_windows | cron_windows, max_size=3).map(tuple),
    ),
    max_size=3,
)


def _laid_out(window: Window, around: datetime) -> list[tuple[datetime, datetime]]:
    if isinstance(window, FixedWindow):
        return [(window.start, window.end)]
    schedule = CronSchedule(window.expression, window.timezone)
    fires = fires_between(schedule, around - 3 * DAY, around + 12 * DAY, 10_000)
    return [(fire, fire + window.duration) for fire in fires]


def _union_end(windows: list[Window], at: datetime) -> datetime:
    end = at
    spans = sorted(span for window in windows for span in _laid_out(window, at))
    for start, stop in spans:
        if start <= end < stop:
            end = stop
    return end


starts = st.sampled_from(
    [JUNE, datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)]
)


@settings(max_examples=200, deadline=None)
@given(calendars=calendars, start=starts, quarters=st.integers(0, 400))
def test_a_blackout_is_the_union_of_its_windows(
    calendars: list[BlackoutCalendar], start: datetime, quarters: int
) -> None:
    at = start + quarters * HOUR / 4
    skipping = [each for each in calendars if each.action == "skip"]
    skip_end = _union_end([w for each in skipping for w in each.windows], at)
    end = _union_end([w for each in calendars for w in each.windows], at)

    blackout = blackout_at(calendars, at)

    if blackout is None:
        assert end == at
        return
    assert (blackout.action == "skip") is (skip_end > at)
    expected = skip_end if skip_end > at else end
    if expected < at + 10 * DAY:  # as far as they are laid out
        assert blackout.until == expected
    if blackout.action == "postpone" and blackout.until is not None:
        assert blackout_at(calendars, blackout.until) is None
        assert blackout_at(calendars, blackout.until - TICK) is not None


@settings(max_examples=100, deadline=None)
@given(calendars=calendars, start=starts)
def test_the_preview_is_what_a_fire_would_meet(
    calendars: list[BlackoutCalendar], start: datetime
) -> None:
    for calendar in calendars:
        previous = start - TICK
        for span in next_blackouts(calendar, start, 4):
            assert previous < span.start
            inside = blackout_at([calendar], span.start)
            assert inside is not None
            assert inside.until == span.end
            assert span.start == start or not calendar.covers(span.start - TICK)
            if span.end is None:
                break
            assert not calendar.covers(span.end)
            previous = span.end
