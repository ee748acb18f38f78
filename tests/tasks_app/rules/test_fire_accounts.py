"""C1: each fire of a schedule has exactly one run, or a counted place in a summary."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tasks_app.rules.fire_accounts import Discrepancy, Entry, FireAccount, Reign
from tasks_app.rules.schedules import CronSchedule, IntervalSchedule

START = datetime(2026, 7, 1, tzinfo=UTC)
MINUTELY = IntervalSchedule(60, START)


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


def runs(*minutes: int, reign: int = 0) -> list[Entry]:
    return [Entry(number, reign, minute(number), minute(number)) for number in minutes]


def audit(
    entries: Sequence[Entry], *reigns: Reign, until: int | None = 10
) -> list[Discrepancy]:
    end = None if until is None else minute(until)
    account = FireAccount(reigns or [Reign(MINUTELY, minute(0), end)])
    return list(account.audit(entries))


def test_a_run_for_each_fire_leaves_nothing_to_say() -> None:
    assert audit(runs(*range(1, 11))) == []


def test_a_missing_fire_is_named() -> None:
    found = audit(runs(1, 2, 3, 5, 6, 7, 8, 9, 10))
    assert found == [Discrepancy("gap", minute(4), minute(4))]


def test_fires_missing_in_a_row_are_one_gap_with_their_count() -> None:
    found = audit(runs(1, 6))
    assert found == [
        Discrepancy("gap", minute(2), minute(5), 4),
        Discrepancy("gap", minute(7), minute(10), 4),
    ]


def test_a_gap_of_years_costs_no_walk_through_its_fires() -> None:
    years = 60 * 24 * 366 * 20
    (gap,) = audit([], until=years)
    assert gap.count == years


def test_a_task_without_runs_has_one_gap() -> None:
    assert audit([]) == [Discrepancy("gap", minute(1), minute(10), 10)]


def test_a_fire_before_the_reign_may_have_a_run_and_needs_none() -> None:
    assert audit(runs(0, *range(1, 11))) == []


def test_without_an_end_nothing_is_demanded_after_the_last_run() -> None:
    assert audit(runs(1, 2, 3), until=None) == []
    assert [gap.first for gap in audit(runs(1, 3), until=None)] == [minute(2)]


def test_a_second_run_of_a_fire_is_named() -> None:
    twice = [
        *runs(*range(1, 5)),
        Entry(44, 0, minute(4), minute(4)),
        *runs(*range(5, 11)),
    ]
    assert audit(twice) == [Discrepancy("duplicate", minute(4), minute(4), 1, 44)]


def test_a_run_beside_the_schedule_is_named_and_hides_no_gap() -> None:
    stray = Entry(99, 0, minute(4.5), minute(4.5))
    found = audit([*runs(1, 2, 3), stray, *runs(*range(5, 11))])
    assert found == [
        Discrepancy("stray", minute(4.5), minute(4.5), 1, 99),
        Discrepancy("gap", minute(4), minute(4)),
    ]


def test_a_summary_accounts_for_its_range() -> None:
    summary = Entry(7, 0, minute(2), minute(7), 6)
    assert audit([*runs(1), summary, *runs(8, 9, 10)]) == []


def test_a_summary_that_counts_wrong_is_named() -> None:
    summary = Entry(7, 0, minute(2), minute(7), 5)
    found = audit([*runs(1), summary, *runs(8, 9, 10)])
    assert [wrong.kind for wrong in found] == ["miscounted"]


def test_a_run_within_a_summary_is_there_twice() -> None:
    summary = Entry(7, 0, minute(2), minute(7), 6)
    found = audit(
        [*runs(1), summary, Entry(50, 0, minute(5), minute(5)), *runs(8, 9, 10)]
    )
    assert [(wrong.kind, wrong.run_id) for wrong in found] == [("duplicate", 50)]


def test_each_schedule_counts_while_it_was_the_current_one() -> None:
    hourly = CronSchedule("0 * * * *", "UTC")
    reigns = [
        Reign(MINUTELY, minute(0), minute(5)),
        Reign(hourly, minute(5), minute(130)),
    ]
    good = [*runs(1, 2, 3, 4, 5), *runs(60, 120, reign=1)]
    assert audit(good, *reigns) == []
    assert audit(good[1:-1], *reigns) == [
        Discrepancy("gap", minute(1), minute(1)),
        Discrepancy("gap", minute(120), minute(120)),
    ]


def test_a_fire_at_the_change_may_belong_to_either_schedule() -> None:
    hourly = CronSchedule("0 * * * *", "UTC")
    reigns = [
        Reign(MINUTELY, minute(0), minute(4.99)),
        Reign(hourly, minute(5.01), minute(70)),
    ]
    with_it = [*runs(1, 2, 3, 4, 5), *runs(60, reign=1)]
    without = [*runs(1, 2, 3, 4), *runs(60, reign=1)]
    assert audit(with_it, *reigns) == audit(without, *reigns) == []


def test_a_task_without_schedule_has_no_scheduled_runs() -> None:
    found = audit(runs(3), Reign(None, minute(0), minute(10)))
    assert [wrong.kind for wrong in found] == ["stray"]
