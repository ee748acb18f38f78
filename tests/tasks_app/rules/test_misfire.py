from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.rules.misfire import (
    MAX_SKIPPED_ROWS,
    MisfirePolicy,
    misfire_plan,
)
from tasks_app.rules.schedules import (
    CronSchedule,
    IntervalSchedule,
    OneOffSchedule,
    Schedule,
    count_fires,
    next_fire,
)

MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
TICK = timedelta(microseconds=1)
HOURLY = CronSchedule("0 * * * *", "UTC")
EVERY_SECOND = IntervalSchedule(1, MIDNIGHT)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-06-01T{text}+00:00")


PLANS = [
    # policy    now         runs (of the hourly fires due)     skipped
    # On time, whatever the policy.
    ("none", "01:00:00", "01", ""),
    ("none", "01:00:59", "01", ""),
    ("none", "01:01:00", "01", ""),  # sixty seconds old is not older than sixty
    ("latest", "01:00:59", "01", ""),
    ("all", "01:00:59", "01", ""),
    # Missed by a second.
    ("none", "01:01:01", "", "01"),
    ("latest", "01:01:01", "01", ""),
    ("all", "01:01:01", "01", ""),
    # Several missed, none on time.
    ("none", "04:30:00", "", "01 02 03 04"),
    ("latest", "04:30:00", "04", "01 02 03"),
    ("all", "04:30:00", "01 02 03 04", ""),
    # Several missed, the newest on time: it stands in for the missed ones.
    ("none", "04:00:30", "04", "01 02 03"),
    ("latest", "04:00:30", "04", "01 02 03"),
    ("all", "04:00:30", "01 02 03 04", ""),
]


@pytest.mark.parametrize(("policy", "now", "runs", "skipped"), PLANS)
def test_the_policy_decides_about_missed_fires_only(
    policy: MisfirePolicy, now: str, runs: str, skipped: str
) -> None:
    plan = misfire_plan(HOURLY, _at("01:00"), _at(now), policy)

    assert [f"{fire:%H}" for fire in plan.run] == runs.split()
    assert [f"{fire:%H}" for fire in plan.skipped] == skipped.split()
    assert plan.summary is None
    assert plan.next_fire_at == next_fire(HOURLY, _at(now))
    assert bool(plan.skip_reason) is bool(skipped)


@pytest.mark.parametrize("policy", ["latest", "all", "none"])
def test_a_beat_two_seconds_late_runs_both_fires_of_an_every_second_task(
    policy: MisfirePolicy,
) -> None:
    plan = misfire_plan(EVERY_SECOND, _at("00:00:05"), _at("00:00:06.900000"), policy)

    assert plan.run == [_at("00:00:05"), _at("00:00:06")]
    assert (plan.skipped, plan.summary) == ([], None)
    assert plan.next_fire_at == _at("00:00:07")


def test_the_grace_can_be_set() -> None:
    plan = misfire_plan(
        HOURLY, _at("01:00"), _at("01:30"), "none", misfire_grace_seconds=1800
    )

    assert plan.run == [_at("01:00")]


def test_all_runs_the_newest_up_to_the_cap_and_says_so() -> None:
    plan = misfire_plan(HOURLY, _at("01:00"), _at("06:30"), "all", cap=2)

    assert plan.run == [_at("05:00"), _at("06:00")]
    assert plan.skipped == [_at("01:00"), _at("02:00"), _at("03:00"), _at("04:00")]
    assert "at most 2 fires" in plan.skip_reason


@pytest.mark.parametrize(
    ("policy", "says"),
    [("latest", "the newest fire runs"), ("none", "misfire policy is none")],
)
def test_a_skip_has_its_reason(policy: MisfirePolicy, says: str) -> None:
    assert says in misfire_plan(HOURLY, _at("01:00"), _at("06:30"), policy).skip_reason


@pytest.mark.parametrize("missed", [100, 101, 102, 250])
def test_after_a_hundred_rows_the_older_skips_are_one_summary(missed: int) -> None:
    now = MIDNIGHT + timedelta(hours=missed - 1, minutes=30)

    plan = misfire_plan(HOURLY, MIDNIGHT, now, "none")

    assert len(plan.skipped) == MAX_SKIPPED_ROWS
    assert plan.skipped[-1] == now - timedelta(minutes=30)
    if missed == 100:
        assert plan.summary is None
    else:
        assert plan.summary is not None
        assert plan.summary.count == missed - MAX_SKIPPED_ROWS
        assert plan.summary.first == MIDNIGHT
        assert plan.summary.last == plan.skipped[0] - timedelta(hours=1)


def test_a_clock_that_went_back_repeats_nothing_and_keeps_the_cursor() -> None:
    plan = misfire_plan(HOURLY, _at("05:00"), _at("03:30"), "all")

    assert (plan.run, plan.skipped, plan.summary) == ([], [], None)
    assert plan.next_fire_at == _at("05:00")


def test_a_cursor_that_is_no_fire_any_more_is_only_a_starting_point() -> None:
    plan = misfire_plan(HOURLY, _at("01:10"), _at("01:20"), "all")

    assert (plan.run, plan.skipped) == ([], [])
    assert plan.next_fire_at == _at("02:00")


def test_the_last_fire_leaves_no_next_one() -> None:
    plan = misfire_plan(OneOffSchedule(MIDNIGHT), MIDNIGHT, MIDNIGHT, "latest")

    assert plan.run == [MIDNIGHT]
    assert plan.next_fire_at is None


def test_a_one_off_missed_by_days_runs_late_unless_the_policy_is_none() -> None:
    schedule = OneOffSchedule(MIDNIGHT)
    late = MIDNIGHT + timedelta(days=3)

    assert misfire_plan(schedule, MIDNIGHT, late, "latest").run == [MIDNIGHT]
    assert misfire_plan(schedule, MIDNIGHT, late, "none").skipped == [MIDNIGHT]


@pytest.mark.parametrize("policy", ["latest", "all", "none"])
@pytest.mark.parametrize(
    ("schedule", "fires", "milliseconds"),
    [
        (EVERY_SECOND, 365 * 86_400 + 1, 50),
        (CronSchedule("* * * * *", "Europe/Kyiv"), 365 * 1440 + 1, 300),
        (CronSchedule("* * * 7 *", "UTC"), 31 * 1440, 300),
    ],
)
def test_a_year_without_beat_is_planned_at_once_and_counted_exactly(
    schedule: Schedule, fires: int, milliseconds: int, policy: MisfirePolicy
) -> None:
    started = time.process_time()

    plan = misfire_plan(schedule, MIDNIGHT, MIDNIGHT + YEAR, policy)

    assert (time.process_time() - started) * 1000 < milliseconds
    assert plan.summary is not None
    assert plan.summary.count + len(plan.skipped) + len(plan.run) == fires


schedules = st.one_of(
    st.builds(IntervalSchedule, st.integers(1, 9_000), st.just(MIDNIGHT)),
    st.builds(
        CronSchedule,
        st.sampled_from(["* * * * *", "*/7 1-5 * * *", "0 0 * * *", "0 0 L * *"]),
        st.sampled_from(["UTC", "Europe/Kyiv"]),
    ),
    st.builds(OneOffSchedule, st.just(MIDNIGHT + timedelta(hours=3))),
)


@settings(max_examples=300, deadline=None)
@given(
    schedule=schedules,
    began=st.integers(0, 100_000),
    late_seconds=st.integers(0, 3_000) | st.integers(0, 20_000_000),
    policy=st.sampled_from(["latest", "all", "none"]),
    cap=st.integers(1, 300),
    grace=st.integers(0, 600),
)
def test_no_fire_is_lost_or_decided_twice(
    schedule: Schedule,
    began: int,
    late_seconds: int,
    policy: MisfirePolicy,
    cap: int,
    grace: int,
) -> None:
    cursor = next_fire(schedule, MIDNIGHT + timedelta(seconds=began))
    if cursor is None:
        return
    now = cursor + timedelta(seconds=late_seconds)
    all_fires = count_fires(schedule, cursor - TICK, now)

    plan = misfire_plan(schedule, cursor, now, policy, cap, misfire_grace_seconds=grace)

    decided = plan.skipped + plan.run
    summarised = plan.summary.count if plan.summary else 0
    assert summarised + len(decided) == all_fires
    assert decided == sorted(set(decided))
    assert all(next_fire(schedule, fire - TICK) == fire for fire in decided)
    assert decided[0 if not plan.summary else -1] >= cursor
    assert decided[-1] <= now
    assert next_fire(schedule, decided[-1]) == plan.next_fire_at  # the newest is there
    assert len(plan.run) <= cap
    assert len(plan.skipped) <= MAX_SKIPPED_ROWS
    assert plan.next_fire_at is None or plan.next_fire_at > now >= cursor
    if plan.summary:
        assert plan.summary.first == cursor
        assert next_fire(schedule, plan.summary.last) == decided[0]
        assert summarised == count_fires(schedule, cursor - TICK, plan.summary.last)
