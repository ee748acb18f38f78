from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.cron import Cron
from tasks_app.rules.cron_advice import (
    calendar_warnings,
    clock_warnings,
    describe_cron,
)
from tasks_app.rules.cron_text import parse_cron
from tasks_app.rules.errors import ScheduleInvalid

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0 3 * * *", "at 03:00 every day"),
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("*/7 * * * *", "every seventh minute of every hour"),  # 56, then 0
        ("0 3 1 * 1", "at 03:00 on the first day of month and on Monday"),
        ("0 0 * * 5L", "at 00:00 on the last Friday of the month"),
        ("0 0 * * MON#2", "at 00:00 on the second Monday of the month"),
        ("30 2 L * *", "at 02:30 on the last day of every month"),
        ("0 0 29 2 *", "at 00:00 on February 29"),
        ("0 0 31 * *", "at 00:00 on the 31st day of every month"),
    ],
)
def test_the_description_is_short_and_true(expression: str, text: str) -> None:
    assert describe_cron(expression) == text


CALENDAR = [
    # expression       codes                     the first message says
    ("0 3 * * *", [], ""),
    ("0 3 15 * *", [], ""),
    ("0 3 1-31 * *", [], ""),
    ("0 3 28-31 * *", [], ""),  # the usual way to ask for a month's end
    ("0 3 L * *", [], ""),
    ("0 3 31 1,3,5,7,8,10,12 *", [], ""),
    ("0 3 31 * *", ["day_missing"], "February, April, June, September, November; L"),
    ("0 3 15,30 * *", ["day_missing"], "day 30 does not come in February;"),
    ("0 3 29 * *", ["day_missing"], "February (outside leap years)"),
    ("0 3 30-31 * *", ["day_missing"], "day 30"),
    ("0 3 30,31 * *", ["day_missing", "day_missing"], "day 30"),
    ("0 3 29 2 *", ["leap_years_only"], "only in leap years"),
    ("0 3 13 * FRI", ["day_fields_or"], "either of them"),
    ("0 3 */2 * FRI", ["day_fields_and"], "both match"),
    ("0 3 1 * */2", ["day_fields_and"], "both match"),
    ("0 3 * * FRI", [], ""),
    ("0 3 */2 * *", [], ""),
]


@pytest.mark.parametrize(("expression", "codes", "says"), CALENDAR)
def test_it_warns_of_days_that_do_not_come(
    expression: str, codes: list[str], says: str
) -> None:
    found = list(calendar_warnings(expression))

    assert [warning.code for warning in found] == codes
    assert not found or says in found[0].message


CLOCKS = [
    # expression       zone           what the messages say, in order
    (
        "30 3 * * *",
        "Europe/Kyiv",
        [
            "on 2026-03-29 clocks in Europe/Kyiv go forward from 03:00 to 04:00,"
            " so 03:30 does not exist: the fire runs at 04:00",
            "on 2026-10-25 clocks in Europe/Kyiv go back from 04:00 to 03:00,"
            " so 03:30 comes twice: the fire runs once, the first time",
        ],
    ),
    (
        "*/30 3 * * *",
        "Europe/Kyiv",
        [
            "on 2026-03-29 clocks in Europe/Kyiv go forward from 03:00 to 04:00,"
            " and the fires in between do not happen",
            "on 2026-10-25 clocks in Europe/Kyiv go back from 04:00 to 03:00,"
            " and the fires in between happen twice",
        ],
    ),
    ("30 4 * * *", "Europe/Kyiv", []),
    ("0 4 * * *", "Europe/Kyiv", []),
    ("59 2 * * *", "Europe/Kyiv", []),
    ("30 3 * * MON", "Europe/Kyiv", []),  # both changes are on Sundays
    ("30 3 * * *", "UTC", []),
    ("*/5 * * * *", "Europe/Kyiv", []),  # every five real minutes, as ever
    ("30 * * * *", "Europe/Kyiv", []),
]


@pytest.mark.parametrize(("expression", "zone", "messages"), CLOCKS)
def test_it_warns_of_fires_that_a_clock_change_moves_drops_or_doubles(
    expression: str, zone: str, messages: list[str]
) -> None:
    found = list(clock_warnings(Cron(expression, zone), START, END))

    assert [warning.message for warning in found] == messages
    assert {warning.code for warning in found} <= {"clock_gap", "clock_overlap"}


terms = st.sampled_from(["*", "*/2", "1", "1-5", "1,3", "2-6/2", "3/2"])


days = terms | st.sampled_from(["L", "LW", "LW,15", "31"])
months = terms | st.sampled_from(["JAN", "FEB-MAR"])
weekdays = terms | st.sampled_from(
    ["MON", "5L", "MON#2", "0", "7", "MON-FRI", "1#1,3L"]
)


@given(st.tuples(terms, terms, days, months, weekdays))
def test_every_accepted_expression_can_be_described(words: tuple[str, ...]) -> None:
    try:
        expression = parse_cron(" ".join(words))
    except ScheduleInvalid:  # such as 31 in February
        return

    assert describe_cron(expression)[0].islower()
    assert all(warning.message for warning in calendar_warnings(expression))
