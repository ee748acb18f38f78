from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.rates import (
    MAX_RUNS,
    MAX_SECONDS,
    Rate,
    RateInvalid,
    next_room_at,
    parse_rate,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


READ = [
    # text          runs  seconds  as it is written back
    ("10/m", 10, 60, "10/m"),
    ("100/15m", 100, 900, "100/15m"),
    ("5/s", 5, 1, "5/s"),
    ("1/d", 1, 86_400, "1/d"),
    ("2/h", 2, 3_600, "2/h"),
    ("2/60m", 2, 3_600, "2/h"),
    ("5/90s", 5, 90, "5/90s"),
    ("3/1m", 3, 60, "3/m"),
    (" 10 / 15 M ", 10, 900, "10/15m"),
    ("007/m", 7, 60, "7/m"),
]


@pytest.mark.parametrize(("text", "runs", "seconds", "back"), READ)
def test_a_rate_is_read_and_written_back(
    text: str, runs: int, seconds: int, back: str
) -> None:
    rate = parse_rate(text)

    assert rate == Rate(runs, seconds)
    assert str(rate) == back


@given(st.integers(1, MAX_RUNS), st.integers(1, MAX_SECONDS))
def test_every_rate_survives_its_text(runs: int, seconds: int) -> None:
    assert parse_rate(str(Rate(runs, seconds))) == Rate(runs, seconds)


REFUSED = [
    # text              code                    says
    ("", "bad_rate", "such as 10/m"),
    ("10", "bad_rate", "such as 10/m"),
    ("10/", "bad_rate", "such as 10/m"),
    ("/m", "bad_rate", "such as 10/m"),
    ("10/15", "bad_rate", "such as 10/m"),
    ("10 per minute", "bad_rate", "such as 10/m"),
    ("1.5/m", "bad_rate", "such as 10/m"),
    ("-1/m", "bad_rate", "such as 10/m"),
    ("٣/m", "bad_rate", "such as 10/m"),
    ("9" * 5000 + "/m", "bad_rate", "such as 10/m"),
    ("10/min", "unknown_unit", "'min' is no unit"),
    ("10/" + "m" * 5000, "unknown_unit", "use s, m, h or d"),
    ("0/m", "runs_out_of_range", "1-100000 runs"),
    ("100001/m", "runs_out_of_range", "1-100000 runs"),
    ("1/0s", "seconds_out_of_range", "31 days"),
    ("1/32d", "seconds_out_of_range", "31 days"),
]


@pytest.mark.parametrize(("text", "code", "says"), REFUSED)
def test_another_text_is_refused_with_what_to_write(
    text: str, code: str, says: str
) -> None:
    with pytest.raises(RateInvalid) as caught:
        parse_rate(text)

    assert caught.value.code == code
    assert says in str(caught.value)
    assert len(caught.value.message) < 200


ROOM = [
    # seconds ago     limit  seconds until there is room, or None
    ([], 1, None),
    ([59], 1, 1),
    ([60], 1, None),  # a start counts for sixty seconds, not longer
    ([59.5], 1, 0.5),
    ([10], 2, None),
    ([30, 10], 2, 30),
    ([10, 30], 2, 30),  # in any order
    ([90, 30, 10], 2, 30),  # with older ones
    ([50, 40, 30, 10], 2, 30),  # the limit was lowered: three have to leave
    ([0, 0, 0], 3, 60),
    ([-5], 1, 65),  # the clock went back
]


@pytest.mark.parametrize(("ago", "limit", "seconds"), ROOM)
def test_room_comes_when_enough_starts_have_left_the_window(
    ago: list[float], limit: int, seconds: float | None
) -> None:
    starts = [NOON - each * SECOND for each in ago]
    expected = None if seconds is None else NOON + seconds * SECOND

    assert next_room_at(starts, limit, 60, NOON) == expected


def test_a_limit_of_nothing_never_has_room() -> None:
    with pytest.raises(ValueError, match="at least one"):
        next_room_at([], 0, 60, NOON)


@given(
    wanted=st.lists(st.integers(0, 200), max_size=40),
    limit=st.integers(1, 5),
    per_seconds=st.integers(1, 60),
)
def test_runs_that_wait_for_room_never_break_the_rate_in_any_window(
    wanted: list[int], limit: int, per_seconds: int
) -> None:
    starts: list[datetime] = []
    for second in sorted(wanted):
        now = max(NOON + second * SECOND, starts[-1] if starts else NOON)
        room_at = next_room_at(starts, limit, per_seconds, now) or now
        assert next_room_at(starts, limit, per_seconds, room_at) is None
        if room_at > now:  # no earlier moment would have done
            just_before = room_at - timedelta(microseconds=1)
            assert next_room_at(starts, limit, per_seconds, just_before) == room_at
        starts.append(room_at)

    for first in starts:
        window_end = first + per_seconds * SECOND
        assert sum(first <= start < window_end for start in starts) <= limit
