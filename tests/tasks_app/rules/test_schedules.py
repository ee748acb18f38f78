from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.schedules import (
    CronSchedule,
    IntervalSchedule,
    OneOffSchedule,
    Schedule,
    ScheduleInvalid,
    count_fires,
    describe,
    fires_between,
    fires_due,
    newest_fires,
    next_fire,
    next_fires,
    warnings,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
KYIV = ZoneInfo("Europe/Kyiv")
SECOND = timedelta(seconds=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEAR_1 = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
YEAR_9999 = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))
NAIVE = datetime(2026, 6, 1, 12)  # noqa: DTZ001 - the case itself


# --- what can exist ---------------------------------------------------------------


REFUSED = [
    # kind and arguments                             field         code
    (IntervalSchedule, (0, NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (-1, NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (0.001, NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (60.0, NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (float("inf"), NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (float("nan"), NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (True, NOON), "seconds", "out_of_range"),
    (IntervalSchedule, ("60", NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (10**18, NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (10**5000, NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (366 * 86_400 + 1, NOON), "seconds", "out_of_range"),
    (IntervalSchedule, (60, NAIVE), "anchor", "naive_datetime"),
    (IntervalSchedule, (60, None), "anchor", "not_a_datetime"),
    (IntervalSchedule, (60, NOON, NOON), "end_at", "end_before_start"),
    (OneOffSchedule, (NAIVE,), "at", "naive_datetime"),
    (OneOffSchedule, (YEAR_1,), "at", "out_of_range"),
    (OneOffSchedule, (YEAR_9999,), "at", "out_of_range"),
    (OneOffSchedule, (datetime(2201, 1, 1, tzinfo=UTC),), "at", "out_of_range"),
    (OneOffSchedule, ("2026-06-01",), "at", "not_a_datetime"),
    (
        OneOffSchedule,
        (datetime(2026, 3, 29, 3, 30, tzinfo=KYIV),),
        "at",
        "imaginary_time",
    ),
    (CronSchedule, ("61 * * * *", "UTC"), "minute", "out_of_range"),
    (CronSchedule, ("0 3 * * *", "Nowhere"), "timezone", "unknown_timezone"),
    (CronSchedule, ("0 3 * * *", "UTC", NAIVE), "start_at", "naive_datetime"),
    (CronSchedule, ("0 3 * * *", "UTC", None, NAIVE), "end_at", "naive_datetime"),
    (CronSchedule, ("0 3 * * *", "UTC", NOON, NOON), "end_at", "end_before_start"),
]


@pytest.mark.parametrize(("kind", "arguments", "field", "code"), REFUSED)
def test_an_invalid_schedule_cannot_exist(
    kind: type, arguments: tuple[object, ...], field: str, code: str
) -> None:
    with pytest.raises(ScheduleInvalid) as caught:
        kind(*arguments)

    assert (caught.value.field, caught.value.code) == (field, code)
    assert len(caught.value.message) < 200


def test_a_time_that_the_clocks_jump_over_is_answered_with_one_that_exists() -> None:
    with pytest.raises(ScheduleInvalid, match=r"2026-03-29 03:30 .* use 04:30"):
        OneOffSchedule(datetime(2026, 3, 29, 3, 30, tzinfo=KYIV))


@pytest.mark.parametrize("seconds", [1, 366 * 86_400])
def test_both_ends_of_the_interval_range_are_allowed(seconds: int) -> None:
    assert IntervalSchedule(seconds, NOON).seconds == seconds


def test_a_schedule_holds_normal_forms() -> None:
    schedule = CronSchedule("@daily", "UTC", datetime(2026, 6, 1, 15, tzinfo=KYIV))

    assert schedule.expression == "0 0 * * *"
    assert schedule.start_at == NOON
    assert schedule.start_at.tzinfo is UTC


# --- when it fires ----------------------------------------------------------------


def _daily(
    start_at: datetime | None = None, end_at: datetime | None = None
) -> Schedule:
    return CronSchedule("0 12 * * *", "UTC", start_at, end_at)


TICK = timedelta(microseconds=1)
NEXT = [
    # schedule                                       after         next fire
    (_daily(), NOON - TICK, NOON),
    (_daily(), NOON, NOON + DAY),
    (_daily(start_at=NOON), NOON - 9 * DAY, NOON),
    (_daily(start_at=NOON + TICK), NOON - 9 * DAY, NOON + DAY),
    (_daily(end_at=NOON), NOON - DAY, NOON),
    (_daily(end_at=NOON), NOON, None),
    (_daily(end_at=NOON - TICK), NOON - DAY, None),
    (IntervalSchedule(3600, NOON), NOON - 9 * DAY, NOON),
    (IntervalSchedule(3600, NOON), NOON, NOON + HOUR),
    (IntervalSchedule(3600, NOON), NOON + HOUR - TICK, NOON + HOUR),
    (IntervalSchedule(3600, NOON, NOON + HOUR), NOON, NOON + HOUR),
    (IntervalSchedule(3600, NOON, NOON + HOUR), NOON + HOUR, None),
    (IntervalSchedule(3600, NOON, NOON + HOUR - TICK), NOON, None),
    (OneOffSchedule(NOON), NOON - TICK, NOON),
    (OneOffSchedule(NOON), NOON, None),
]


@pytest.mark.parametrize(("schedule", "after", "expected"), NEXT)
def test_the_next_fire_is_strictly_after_and_within_both_bounds(
    schedule: Schedule, after: datetime, expected: datetime | None
) -> None:
    assert next_fire(schedule, after) == expected


def test_an_interval_in_local_time_does_not_follow_the_wall_clock() -> None:
    """Two datetimes of one zone subtract by wall clock: an hour too much in spring."""
    evening = datetime(2026, 3, 28, 22, tzinfo=KYIV)
    schedule = IntervalSchedule(8 * 3600, evening)

    after = evening.astimezone(UTC) + timedelta(hours=8, minutes=30)

    assert next_fire(schedule, after.astimezone(KYIV)) == evening.astimezone(
        UTC
    ) + timedelta(hours=16)


def test_local_arguments_are_instants_also_in_the_repeated_hour() -> None:
    """Two datetimes of one zone compare by wall clock: there 03:45 is after 03:05."""
    schedule = CronSchedule("*/30 3 * * *", "Europe/Kyiv")
    first_pass = datetime(2026, 10, 25, 3, 45, tzinfo=KYIV)
    second_pass = datetime(2026, 10, 25, 3, 5, tzinfo=KYIV, fold=1)
    again = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # 03:00, the second time

    assert next_fire(schedule, first_pass) == again
    assert count_fires(schedule, first_pass, second_pass) == 1
    assert newest_fires(schedule, first_pass, second_pass, 9) == [again]
    assert fires_between(schedule, first_pass, second_pass, 9) == [again]


moments = st.datetimes(
    datetime(1971, 1, 1),  # noqa: DTZ001 - made aware by timezones
    datetime(2199, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(moments, st.integers(1, 366 * 86_400), moments)
def test_interval_fires_are_the_anchor_plus_whole_steps(
    anchor: datetime, seconds: int, after: datetime
) -> None:
    schedule = IntervalSchedule(seconds, anchor)
    step = timedelta(seconds=seconds)

    fire = next_fire(schedule, after)

    assert fire is not None
    assert fire > after
    assert fire >= anchor
    assert (fire - anchor) % step == timedelta()
    assert fire - step <= max(after, anchor - step)  # none in between


def _moments(low: int, high: int) -> st.SearchStrategy[datetime]:
    return st.integers(low, high).map(lambda hours: NOON + hours * HOUR)


ends = st.none() | _moments(20, 60)
kinds = st.one_of(
    st.builds(IntervalSchedule, st.integers(600, 90_000), _moments(-15, 15), ends),
    st.builds(
        CronSchedule,
        st.sampled_from(["0 3 * * *", "*/15 1-4 * * *", "7,50 */3 * * *", "0 0 L * *"]),
        st.sampled_from(["UTC", "Europe/Kyiv", "America/New_York"]),
        st.none() | _moments(-30, 15),
        ends,
    ),
    st.builds(OneOffSchedule, _moments(-90, 90)),
)


@given(kinds, st.integers(-90, 90), st.integers(0, 90), st.integers(0, 40))
def test_all_ways_to_ask_for_fires_agree(
    schedule: Schedule, first: int, length: int, limit: int
) -> None:
    after = NOON + first * HOUR
    until = after + length * HOUR
    fires = []
    fire = next_fire(schedule, after)
    while fire is not None and fire <= until:
        fires.append(fire)
        fire = next_fire(schedule, fire)

    assert fires == sorted(set(fires))
    assert fires_between(schedule, after, until, limit) == fires[:limit]
    assert newest_fires(schedule, after, until, limit) == fires[::-1][:limit][::-1]
    assert count_fires(schedule, after, until) == len(fires)
    assert count_fires(schedule, after, until, cap=limit) == min(limit, len(fires))
    assert next_fires(schedule, after, len(fires)) == fires
    cursor = fires[0] if fires else after + SECOND
    following = next_fire(schedule, max(until, cursor - SECOND))
    assert fires_due(schedule, cursor, until, len(fires) + 1) == (fires, following)
    assert all(schedule.fires_at(fire) for fire in fires)
    assert not any(schedule.fires_at(fire + SECOND) for fire in fires)


def test_an_ended_schedule_gives_the_fires_it_has() -> None:
    assert next_fires(OneOffSchedule(NOON), NOON - DAY, 5) == [NOON]


def test_a_window_that_ends_before_it_starts_is_empty() -> None:
    for schedule in (_daily(), IntervalSchedule(60, NOON), OneOffSchedule(NOON)):
        assert count_fires(schedule, NOON + DAY, NOON - DAY) == 0
        assert newest_fires(schedule, NOON + DAY, NOON - DAY, 9) == []


def test_an_interval_jumps_over_two_centuries_of_seconds() -> None:
    schedule = IntervalSchedule(1, datetime(1970, 1, 1, tzinfo=UTC))
    late = datetime(2199, 1, 1, tzinfo=UTC)
    started = time.process_time()

    assert next_fires(schedule, late, 3)[0] == late + timedelta(seconds=1)
    assert count_fires(schedule, NOON, late) == int((late - NOON).total_seconds())
    assert newest_fires(schedule, NOON, late, 2)[-1] == late
    assert time.process_time() - started < 0.01


# --- what people are told ---------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (CronSchedule("0 3 * * *", "UTC"), "at 03:00 every day"),
        (IntervalSchedule(1, NOON), "every second"),
        (IntervalSchedule(90, NOON), "every 90 seconds"),
        (IntervalSchedule(60, NOON), "every minute"),
        (IntervalSchedule(900, NOON), "every 15 minutes"),
        (IntervalSchedule(7200, NOON), "every 2 hours"),
        (IntervalSchedule(86_400, NOON), "every day"),
        (OneOffSchedule(NOON), "once at 2026-06-01 12:00:00 UTC"),
    ],
)
def test_the_description_is_short_english(schedule: Schedule, text: str) -> None:
    assert describe(schedule) == text


AUTUMN = datetime(2026, 9, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "codes"),
    [
        (CronSchedule("0 12 * * *", "Europe/Kyiv"), []),
        (CronSchedule("* * * * *", "UTC"), ["very_frequent"]),
        (CronSchedule("*/2 * * * *", "UTC"), []),
        (IntervalSchedule(60, NOON), ["very_frequent"]),
        (IntervalSchedule(87, NOON), []),
        (CronSchedule("0 0 31 * *", "UTC"), ["day_missing"]),
        (CronSchedule("30 3 * * *", "Europe/Kyiv"), ["clock_overlap", "clock_gap"]),
        (
            CronSchedule("30 3 * * *", "Europe/Kyiv", AUTUMN),
            ["clock_overlap", "clock_gap"],
        ),
        (CronSchedule("30 3 * * *", "Europe/Kyiv", None, AUTUMN), []),
        (OneOffSchedule(NOON + DAY), []),
        (OneOffSchedule(NOON - DAY), ["no_fires_left"]),
        (_daily(end_at=NOON), ["no_fires_left"]),
    ],
)
def test_it_warns_of_what_may_surprise(schedule: Schedule, codes: list[str]) -> None:
    assert [warning.code for warning in warnings(schedule, NOON)] == codes


def test_warnings_take_a_local_now() -> None:
    schedule = CronSchedule("30 3 * * *", "Europe/Kyiv")

    assert warnings(schedule, NOON.astimezone(KYIV)) == warnings(schedule, NOON)
