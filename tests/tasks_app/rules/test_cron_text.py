from __future__ import annotations

import time
from calendar import isleap
from datetime import date, datetime

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.rules.cron_text import CALENDARS, parse_cron
from tasks_app.rules.errors import ScheduleInvalid


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("0 3 * * *", "0 3 * * *"),
        ("  0   3 *\t* \t * ", "0 3 * * *"),
        ("00 03 * * *", "00 03 * * *"),
        ("0 9-17 * jan,MAR mon-FRI", "0 9-17 * JAN,MAR MON-FRI"),
        ("*/15 0-12/2 1,15 * *", "*/15 0-12/2 1,15 * *"),
        ("5/10 * * * *", "5/10 * * * *"),
        ("5-5 * * * *", "5-5 * * * *"),
        ("0 0 l * *", "0 0 L * *"),
        ("0 0 LW * *", "0 0 LW * *"),
        ("0 0 * * 5L", "0 0 * * 5L"),
        ("0 0 * * mon#2,5L", "0 0 * * MON#2,5L"),
        ("0 0 * * 0", "0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 * * 5-7"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 31 4 MON", "0 0 31 4 MON"),  # either day field: Mondays of April
        ("0 0 * 2 1#5", "0 0 * 2 1#5"),  # once in 28 years
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        (" @yearly ", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ],
)
def test_it_accepts_and_normalises(text: str, normal: str) -> None:
    assert parse_cron(text) == normal


REFUSED = [
    # text                    field           code                 the message says
    ("", "expression", "empty", "0 3 * * *"),
    (" \t ", "expression", "empty", "0 3 * * *"),
    ("* * * *", "expression", "wrong_field_count", "five fields"),
    ("* * * * * *", "expression", "wrong_field_count", "here are 6"),
    ("0 0 * * *\n", "expression", "control_character", "one line"),
    ("0 0 *\r\n* *", "expression", "control_character", "one line"),
    ("0 0 * * *\0", "expression", "control_character", "control"),
    ("0 0 * * \x0b*", "expression", "control_character", "one line"),
    ("," * 20_000, "expression", "too_long", "200"),
    ("* " * 101, "expression", "too_long", "200"),
    ("@reboot", "expression", "reboot", "no time"),
    ("@every 5m", "expression", "unknown_macro", "@hourly"),
    ("61 * * * *", "minute", "out_of_range", "minute 61 is out of range 0-59"),
    ("0-60 * * * *", "minute", "out_of_range", "minute 60 is out of range 0-59"),
    ("* 24 * * *", "hour", "out_of_range", "hour 24 is out of range 0-23"),
    ("* * 0 * *", "day_of_month", "out_of_range", "0 is out of range 1-31"),
    ("* * 32 * *", "day_of_month", "out_of_range", "day-of-month 32"),
    ("* * * 13 *", "month", "out_of_range", "month 13 is out of range 1-12"),
    ("* * * * 8", "day_of_week", "out_of_range", "8 is out of range 0-7"),
    ("* * * * 8L", "day_of_week", "out_of_range", "8 is out of range 0-7"),
    ("* * * * 1#6", "day_of_week", "out_of_range", "after # is 1-5"),
    ("*/0 * * * *", "minute", "bad_step", "/0 is not a number from 1 to 60"),
    ("*/90 * * * *", "minute", "bad_step", "/90 is not a number from 1 to 60"),
    ("*/ * * * *", "minute", "bad_step", "step / is not a number"),
    ("*/1/2 * * * *", "minute", "bad_step", "/1/2"),
    ("* * L/2 * *", "day_of_month", "bad_value", "not understood"),
    ("5-1 * * * *", "minute", "backwards_range", "5-1 runs backwards"),
    ("0 0 * * SAT-SUN", "day_of_week", "backwards_range", "SAT,SUN"),
    ("-1 * * * *", "minute", "bad_value", "'-1' is not understood"),
    ("1- * * * *", "minute", "bad_value", "'1-' is not understood"),
    ("1e1 * * * *", "minute", "bad_value", "number 0-59"),
    ("1.5 * * * *", "minute", "bad_value", "number 0-59"),
    ("1,,2 * * * *", "minute", "bad_value", "number 0-59"),
    ("**/2 * * * *", "minute", "bad_value", "number 0-59"),
    ("+1 * * * *", "minute", "bad_value", "number 0-59"),
    ("* * * MARCH *", "month", "bad_value", "'MARCH' is not understood"),
    ("* MON * * *", "hour", "bad_value", "number 0-23"),
    ("L * * * *", "minute", "bad_value", "number 0-59"),
    ("H H * * *", "minute", "foreign_symbol", "Jenkins"),
    ("0 H(0-7) * * *", "hour", "foreign_symbol", "Jenkins"),
    ("R R * * *", "minute", "foreign_symbol", "random"),
    ("0 0 ? * 1", "day_of_month", "foreign_symbol", "write *"),
    ("0 0 15W * *", "day_of_month", "foreign_symbol", "Quartz"),
    ("\u0663 * * * *", "minute", "not_ascii", "0-9"),
    ("0 0 * * \uff2d\uff2f\uff2e", "day_of_week", "not_ascii", "0-9"),
    ("0 0\xa0* * *", "expression", "not_ascii", "0-9"),
    ("0 0 30 2 *", "day_of_month", "never_fires", "never fires"),
    ("0 0 31 4 *", "day_of_month", "never_fires", "never fires"),
    ("0 0 31 2,4,6,9,11 *", "day_of_month", "never_fires", "never fires"),
    ("0 0 */31 * 1#2", "day_of_month", "never_fires", "never fires"),
    ("0 0 LW * */7", "day_of_month", "never_fires", "never fires"),
]


@pytest.mark.parametrize(("text", "field", "code", "says"), REFUSED)
def test_it_refuses_and_says_why_within_50_ms(
    text: str, field: str, code: str, says: str
) -> None:
    seconds = []
    for _ in range(3):  # the best of three, as the machine has other work
        started = time.process_time()
        with pytest.raises(ScheduleInvalid) as caught:
            parse_cron(text)
        seconds.append(time.process_time() - started)

    assert min(seconds) < 0.05
    assert (caught.value.field, caught.value.code) == (field, code)
    assert says in caught.value.message


def test_each_of_the_fourteen_calendars_is_tried() -> None:
    kinds = {(date(y, 1, 1).weekday(), isleap(y)) for y in CALENDARS}

    assert len(kinds) == len(CALENDARS) == 14


atoms = st.sampled_from([*"0123456789*,-/#LW", "MON", "SUN", "JAN", "DEC", "31"])
odd_fields = st.lists(atoms, min_size=1, max_size=5).map("".join)


@settings(max_examples=600)
@given(st.integers(0, 4), odd_fields)
def test_what_it_accepts_cronsim_can_run(position: int, odd_field: str) -> None:
    words = ["*"] * 5
    words[position] = odd_field
    text = " ".join(words)
    try:
        parse_cron(text)
    except ScheduleInvalid as refusal:
        if refusal.code != "never_fires":
            return

    assert _cronsim_error(text) in {"", "Bad day-of-month"}  # its own "never fires"


def _cronsim_error(text: str) -> str:
    try:
        CronSim(text, datetime(2026, 1, 1))  # noqa: DTZ001 - a wall clock
    except CronSimError as error:
        return str(error)
    return ""
