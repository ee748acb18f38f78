from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.jitter import jitter

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


KNOWN = [
    # task  fire                        jitter  microseconds
    (1, NOON, 60, 50_866_455),
    (2, NOON, 60, 9_002_380),
    (1, NOON + timedelta(days=1), 60, 38_563_626),
    (1, NOON, 3600, 3_051_987_345),
]


@pytest.mark.parametrize(("task_id", "fire", "seconds", "microseconds"), KNOWN)
def test_a_fire_keeps_its_delay_from_release_to_release(
    task_id: int, fire: datetime, seconds: int, microseconds: int
) -> None:
    assert jitter(task_id, fire, seconds) == timedelta(microseconds=microseconds)


def test_an_instant_has_one_delay_in_whatever_zone_it_is_written() -> None:
    assert jitter(7, NOON.astimezone(ZoneInfo("Europe/Kyiv")), 60) == jitter(
        7, NOON, 60
    )


def test_every_process_comes_to_the_same_delay() -> None:
    program = (
        "from datetime import UTC, datetime; from tasks_app.rules.jitter import jitter;"
        "print(jitter(7, datetime(2026, 6, 1, 12, tzinfo=UTC), 60))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert told == {str(jitter(7, NOON, 60))}


@given(st.integers(1), st.datetimes(timezones=st.just(UTC)), st.integers(1, 86_400))
def test_a_delay_is_never_negative_and_never_reaches_the_maximum(
    task_id: int, fire: datetime, seconds: int
) -> None:
    assert timedelta() <= jitter(task_id, fire, seconds) < timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [0, -5])
def test_without_jitter_a_fire_is_not_delayed(seconds: int) -> None:
    assert jitter(7, NOON, seconds) == timedelta()


@pytest.mark.parametrize("varied", ["tasks", "fires"])
def test_delays_spread_evenly_over_the_tasks_and_over_the_fires(varied: str) -> None:
    draws = 20_000
    buckets = Counter(
        jitter(
            number if varied == "tasks" else 7,
            NOON + timedelta(minutes=0 if varied == "tasks" else number),
            20,
        )
        // timedelta(seconds=1)
        for number in range(draws)
    )

    assert set(buckets) == set(range(20))
    # 1000 are expected in each; five standard deviations of a binomial are 154.
    assert all(abs(count - draws // 20) < 154 for count in buckets.values())


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        jitter(7, NOON.replace(tzinfo=None), 60)
