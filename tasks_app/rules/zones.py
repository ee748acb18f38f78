"""Time zones: which names are accepted, and where a wall clock jumps."""

from __future__ import annotations

import difflib
import functools
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tasks_app.rules.errors import ScheduleInvalid

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)

MAX_NAME_LENGTH = 64  # the longest zone name has 32 characters
# Names of files, not of places: they differ from host to host.
NOT_PLACES = frozenset({"localtime", "posixrules", "Factory"})


@functools.cache
def timezone_names() -> frozenset[str]:
    """The accepted names. Reads the zone directory once in a process."""
    return frozenset(zoneinfo.available_timezones() - NOT_PLACES)


@functools.lru_cache(maxsize=1024)
def parse_timezone(name: str) -> ZoneInfo:
    """The zone called `name`, exactly as the IANA database spells it.

    Unknown text never reaches `ZoneInfo`, which opens files by that name and answers
    with OSError or IsADirectoryError. Raises `ScheduleInvalid("timezone", ...)`.
    """
    if name in timezone_names():
        return ZoneInfo(name)
    raise ScheduleInvalid("timezone", "unknown_timezone", _unknown_zone_message(name))


def _unknown_zone_message(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH:
        return f"a time zone name has at most {MAX_NAME_LENGTH} characters"
    near = _similar_zone(name)
    advice = f"did you mean {near}?" if near else "write it like Europe/Berlin or UTC"
    return f"{name!r} is not a known time zone; {advice}"


def _similar_zone(name: str) -> str | None:
    """The zone whose full name or city is nearest to `name`."""
    spellings: dict[str, str] = {}
    for zone in sorted(timezone_names()):
        spellings.setdefault(zone.rpartition("/")[2].lower(), zone)
    spellings |= {zone.lower(): zone for zone in timezone_names()}
    near = difflib.get_close_matches(name.lower(), sorted(spellings), n=1, cutoff=0.6)
    return spellings[near[0]] if near else None


def wall_clock(moment: datetime, zone: ZoneInfo) -> datetime:
    """What a clock on the wall shows: local time without its zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def offset_at(zone: ZoneInfo, moment: datetime) -> timedelta:
    """The distance of local time from UTC at an instant."""
    return moment.astimezone(zone).utcoffset() or timedelta()


def instants(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """When a wall clock shows `wall`, in UTC and in order.

    Never in a gap, twice in an overlap, once otherwise (PEP 495).
    """
    first, second = _readings(wall, zone)
    if first == second:
        return (first,)
    return (first, second) if first < second else ()


def first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """When `wall` is first reached or passed: in a gap, the instant of the jump."""
    first, second = _readings(wall, zone)
    return first if first <= second else jump_between(second, first, zone)


def _readings(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """`wall` read with the offset before a jump and with the one after it."""
    local = wall.replace(tzinfo=zone)
    before = local.utcoffset() or timedelta()
    after = local.replace(fold=1).utcoffset() or timedelta()
    moment = wall.replace(tzinfo=UTC)
    return moment - before, moment - after


def is_first_pass(moment: datetime, zone: ZoneInfo) -> bool:
    """Whether the wall clock will show this instant's time a second time."""
    local = moment.astimezone(zone)
    return local.fold == 0 and local.utcoffset() != local.replace(fold=1).utcoffset()


def jump_between(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first instant after `low` that has another offset than `low`.

    Offsets change on whole seconds, and `low` and `high` differ in theirs.
    """
    low = low.replace(microsecond=0)
    before = offset_at(zone, low)
    known, unknown = 0, int((high - low) / SECOND) + 1
    while unknown - known > 1:
        middle = (known + unknown) // 2
        if offset_at(zone, low + middle * SECOND) == before:
            known = middle
        else:
            unknown = middle
    return low + unknown * SECOND


def jumps(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """The instants in (after, until] at which the zone's offset changes."""
    day = after
    while day < until:
        next_day = min(day + DAY, until)
        if offset_at(zone, day) != offset_at(zone, next_day):
            yield jump_between(day, next_day, zone)
        day = next_day
