from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tasks_app.rules.errors import ScheduleInvalid
from tasks_app.rules.zones import (
    first_instant,
    instants,
    is_first_pass,
    jumps,
    parse_timezone,
)

KYIV = ZoneInfo("Europe/Kyiv")
FORWARD = datetime(2026, 3, 29, 1, tzinfo=UTC)  # 03:00 becomes 04:00
BACK = datetime(2026, 10, 25, 1, tzinfo=UTC)  # 04:00 becomes 03:00


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/Kyiv", "America/New_York", "Etc/GMT+5"]
)
def test_it_accepts_a_zone_by_its_own_spelling(name: str) -> None:
    assert parse_timezone(name) == ZoneInfo(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Europe/Kiyv", "did you mean Europe/Kyiv?"),
        ("europe/kyiv", "did you mean Europe/Kyiv?"),
        ("New_York", "did you mean America/New_York?"),
        ("Europe", "Europe/"),
        ("qqqqqq", "write it like Europe/Berlin"),
        ("", "write it like Europe/Berlin"),
        ("localtime", "not a known time zone"),
        ("posixrules", "not a known time zone"),
        ("Factory", "not a known time zone"),
        ("../../etc/passwd", "not a known time zone"),
        ("/etc/localtime", "not a known time zone"),
        ("UTC\0", "not a known time zone"),
        ("A" * 5000, "at most 64 characters"),
    ],
)
def test_it_refuses_other_names_with_advice(name: str, says: str) -> None:
    with pytest.raises(ScheduleInvalid) as caught:
        parse_timezone(name)

    assert (caught.value.field, caught.value.code) == ("timezone", "unknown_timezone")
    assert says in caught.value.message


def test_a_refused_name_never_reaches_the_file_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks_app.rules.zones.ZoneInfo", pytest.fail)

    with pytest.raises(ScheduleInvalid):
        parse_timezone("Europe/Nowhere")


WALLS = [
    # zone                   wall clock     instants in UTC          first instant
    ("Europe/Kyiv", "2026-03-29T02:59", ["2026-03-29T00:59"], "2026-03-29T00:59"),
    ("Europe/Kyiv", "2026-03-29T03:00", [], "2026-03-29T01:00"),
    ("Europe/Kyiv", "2026-03-29T03:59", [], "2026-03-29T01:00"),
    ("Europe/Kyiv", "2026-03-29T04:00", ["2026-03-29T01:00"], "2026-03-29T01:00"),
    (
        "Europe/Kyiv",
        "2026-10-25T03:30",
        ["2026-10-25T00:30", "2026-10-25T01:30"],
        "2026-10-25T00:30",
    ),
    ("Australia/Lord_Howe", "2026-10-04T02:15", [], "2026-10-03T15:30"),
    ("Africa/Cairo", "2026-04-24T00:30", [], "2026-04-23T22:00"),
    ("Pacific/Apia", "2011-12-30T12:00", [], "2011-12-30T10:00"),  # a lost day
]


@pytest.mark.parametrize(("zone", "wall", "expected", "first"), WALLS)
def test_a_wall_clock_time_happens_never_once_or_twice(
    zone: str, wall: str, expected: list[str], first: str
) -> None:
    moment = datetime.fromisoformat(wall)

    assert list(instants(moment, ZoneInfo(zone))) == [_utc(text) for text in expected]
    assert first_instant(moment, ZoneInfo(zone)) == _utc(first)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-10-24T23:59", False),
        ("2026-10-25T00:00", True),
        ("2026-10-25T00:59", True),
        ("2026-10-25T01:00", False),
        ("2026-03-29T00:59", False),
    ],
)
def test_only_the_first_pass_of_an_overlap_comes_again(
    moment: str, *, expected: bool
) -> None:
    assert is_first_pass(_utc(moment), KYIV) is expected


@pytest.mark.parametrize(
    ("after", "until", "expected"),
    [
        ("2026-01-01T00:00", "2026-12-31T00:00", [FORWARD, BACK]),
        ("2026-03-29T00:59", "2026-03-29T01:00", [FORWARD]),
        ("2026-03-29T01:00", "2026-10-25T00:59", []),
    ],
)
def test_jumps_are_found_to_the_second(
    after: str, until: str, expected: list[datetime]
) -> None:
    assert list(jumps(KYIV, _utc(after), _utc(until))) == expected


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
