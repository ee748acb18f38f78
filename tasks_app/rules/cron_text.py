"""Reading cron text: which expressions are accepted, and why others are not."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NoReturn

from cronsim import CronSim, CronSimError
from cronsim.cronsim import SYMBOLIC_DAYS, SYMBOLIC_MONTHS

from tasks_app.rules.errors import ScheduleInvalid

MAX_LENGTH = 200

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

# One year of each kind: leap or not, beginning on each day of the week.
CALENDARS = (
    *(2000, 2004, 2008, 2012, 2016, 2020, 2024),
    *(2001, 2002, 2003, 2005, 2006, 2009, 2010),
)

# Other dialects' letters, and what to write here. Not before a letter: MAR has an R.
FOREIGN_SYMBOLS = [
    (re.compile(r"H(?![A-Z])"), "H (a hash, from Jenkins) is not cron: pick a value"),
    (re.compile(r"R(?![A-Z])"), "R (random) is not cron: pick a value"),
    (re.compile(r"\?"), "? (from Quartz) is not cron: write *"),
    (re.compile(r"\d+W"), "a day with W (from Quartz) is not cron"),
]


@dataclass(frozen=True)
class _Field:
    """One of the five fields: its name in errors, in prose, and its values."""

    name: str
    low: int
    high: int
    names: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.name.replace("_", "-")

    def refuse(self, code: str, reason: str) -> NoReturn:
        raise ScheduleInvalid(self.name, code, f"{self.label} {reason}")


FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day_of_month", 1, 31),
    _Field("month", 1, 12, {name: n for n, name in enumerate(SYMBOLIC_MONTHS, 1)}),
    _Field("day_of_week", 0, 7, {name: n for n, name in enumerate(SYMBOLIC_DAYS)}),
)


@functools.lru_cache(maxsize=1024)
def parse_cron(text: str) -> str:
    """The expression in normal form: five fields, one space between, upper case.

    Takes what CronSim takes of crontab(5): names, lists, ranges, steps, `L` and `LW`
    as day of month, `5L` and `MON#2` as day of week, and the @macros apart from
    @reboot. A step longer than its field is refused, as `*/90` would quietly mean 0.
    Raises `ScheduleInvalid` with the field and the reason; costs at most about 5 ms,
    for an expression that never fires.
    """
    words = _words(text)
    if words[0].startswith("@"):
        return _macro(" ".join(words))
    _check_ascii(words)
    if len(words) != len(FIELDS):
        _refuse_whole(
            "wrong_field_count",
            "cron has five fields: minute hour day-of-month month day-of-week;"
            f" here are {len(words)}",
        )
    words = [word.upper() for word in words]
    for spec, word in zip(FIELDS, words, strict=True):
        for term in word.split(","):
            _check_term(spec, term)
    expression = " ".join(words)
    _check_it_fires(expression)
    return expression


def _refuse_whole(code: str, reason: str) -> NoReturn:
    raise ScheduleInvalid("expression", code, reason)


def _words(text: str) -> list[str]:
    if len(text) > MAX_LENGTH:
        _refuse_whole("too_long", f"cron text has at most {MAX_LENGTH} characters")
    if any(char.isascii() and not char.isprintable() for char in text if char != "\t"):
        _refuse_whole(
            "control_character",
            "cron text is one line, without line breaks or control characters",
        )
    words = [word for word in re.split(r"[ \t]+", text) if word]
    if not words:
        _refuse_whole("empty", "cron text is empty; for example 0 3 * * * is 03:00")
    return words


def _macro(text: str) -> str:
    name = text.lower()
    if name == "@reboot":
        _refuse_whole(
            "reboot",
            "@reboot has no time: a fleet does not start as one machine does."
            " Choose a time, or trigger the task when your host starts",
        )
    if name not in MACROS:
        _refuse_whole("unknown_macro", f"use one of {', '.join(MACROS)}")
    return MACROS[name]


def _check_ascii(words: list[str]) -> None:
    for position, word in enumerate(words):
        if not word.isascii():
            is_field = len(words) == len(FIELDS)
            raise ScheduleInvalid(
                FIELDS[position].name if is_field else "expression",
                "not_ascii",
                f"{word!r} has characters outside ASCII; write digits as 0-9",
            )


def _check_term(spec: _Field, term: str) -> None:
    if _is_special(spec, term):
        return
    base, slash, step = term.partition("/")
    if slash:
        _check_step(spec, step)
    if base == "*":
        return
    low, dash, high = base.partition("-")
    first = _value(spec, low, term)
    if dash and _value(spec, high, term) < first:
        spec.refuse(
            "backwards_range",
            f"{base} runs backwards; write a list, such as {low},{high}",
        )


def _is_special(spec: _Field, term: str) -> bool:
    """`L` and `LW` as day of month, `5L` and `MON#2` as day of week."""
    if spec.name == "day_of_month":
        return term in {"L", "LW"}
    if spec.name != "day_of_week":
        return False
    if re.fullmatch(r"\d+L", term):
        _value(spec, term[:-1], term)
        return True
    day, hash_sign, nth = term.partition("#")
    if not hash_sign:
        return False
    _value(spec, day, term)
    if not re.fullmatch(r"[1-5]", nth):
        spec.refuse("out_of_range", f"{term}: the number after # is 1-5")
    return True


def _check_step(spec: _Field, step: str) -> None:
    widest = spec.high - spec.low + 1
    if not (step.isdigit() and 1 <= int(step) <= widest):
        spec.refuse("bad_step", f"step /{step} is not a number from 1 to {widest}")


def _value(spec: _Field, text: str, term: str) -> int:
    if text in spec.names:
        return spec.names[text]
    if not text.isdigit():
        _refuse_value(spec, term)
    value = int(text)
    if not spec.low <= value <= spec.high:
        spec.refuse("out_of_range", f"{text} is out of range {spec.low}-{spec.high}")
    return value


def _refuse_value(spec: _Field, term: str) -> NoReturn:
    for symbol, advice in FOREIGN_SYMBOLS:
        if symbol.match(term):
            spec.refuse("foreign_symbol", f"{term}: {advice}")
    spec.refuse(
        "bad_value",
        f"{term!r} is not understood; write a number {spec.low}-{spec.high},"
        " a list 1,3, a range 1-5, a step */2 or *",
    )


def _check_it_fires(expression: str) -> None:
    """Refuse 30 February and its kin, which fit no day of any of the 14 calendars."""
    try:
        sim = CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - a wall clock
        fires = any(
            day.month in sim.months and sim.match_day(day)
            for day in _every_kind_of_day()
        )
    except CronSimError:  # its own check, for the day of the month alone
        fires = False
    if not fires:
        raise ScheduleInvalid(
            "day_of_month",
            "never_fires",
            f"{expression} never fires: no date fits its day and month fields",
        )


def _every_kind_of_day() -> Iterator[date]:
    for year in CALENDARS:
        first = date(year, 1, 1).toordinal()
        yield from map(date.fromordinal, range(first, date(year + 1, 1, 1).toordinal()))
