from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from scheduler_project.local.demo import RunRow, is_over, problems, run_rows, table
from scheduler_project.local.demo_tasks import demo_tasks
from tasks_app import ledger
from tasks_app.ledger import Finish, LogChunk
from tests.factories import claim, make_run, make_task

DEMOS = [
    demo
    for demo in demo_tasks(datetime(2026, 1, 1, tzinfo=UTC), "http://127.0.0.1:8000")
    if demo.name in {"demo-retry", "demo-cron"}
]
RETRY = RunRow(1, "demo-retry", "schedule", "succeeded", 3, 0, 12, 40, "attempt 3")
CRON = RunRow(2, "demo-cron", "schedule", "succeeded", 1, 0, 9, 7, "every minute")


def test_all_as_expected_is_no_problem() -> None:
    assert list(problems(DEMOS, [RETRY, CRON])) == []
    assert list(problems(DEMOS, [RETRY, CRON, replace(CRON, run=3)])) == []


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (replace(RETRY, status="failed"), "has status failed, not succeeded."),
        (replace(RETRY, trigger="api"), "has trigger api, not schedule."),
        (replace(RETRY, attempts=1), "has attempts 1, not 3."),
        (replace(RETRY, exit_code=None), "has exit code None, not 0."),
        (replace(RETRY, output="hm"), "has output hm, not attempt 3."),
    ],
)
def test_each_difference_is_a_sentence(row: RunRow, sentence: str) -> None:
    assert list(problems(DEMOS, [row, CRON])) == [f"demo-retry (run 1) {sentence}"]


def test_missing_and_surplus_runs_are_told() -> None:
    assert list(problems(DEMOS, [RETRY, replace(RETRY, run=2)])) == [
        "demo-cron ran 0 times, not at least once.",
        "demo-retry ran 2 times, not 1.",
    ]


def test_it_is_over_when_every_expected_run_is_there() -> None:
    assert not is_over(DEMOS, [RETRY])
    assert is_over(DEMOS, [RETRY, CRON])


def test_the_table_fits_a_narrow_terminal() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table([RETRY, CRON]))

    assert "demo-retry    schedule   succeeded" in captured.get()
    assert "attempt 3" in captured.get()


@pytest.mark.django_db
def test_rows_tell_what_the_ledger_knows() -> None:
    waiting = make_run(make_task(name="waits"))
    ended = make_run(make_task(name="ends"))
    claimed = claim(ended)
    chunk = LogChunk(ended.pk, claimed.attempt, 1, "stdout", "first\nsecond\n")
    ledger.append_logs([chunk])
    ledger.finish([Finish(ended.pk, claimed.attempt, "failed", exit_code=3)])

    first, second = run_rows()

    assert first == RunRow(
        waiting.pk, "waits", "api", "queued", 0, None, None, None, ""
    )
    assert not first.is_over
    assert replace(second, queued_ms=None, duration_ms=None) == RunRow(
        ended.pk, "ends", "api", "failed", 1, 3, None, None, "first"
    )
    assert second.queued_ms is not None
    assert second.duration_ms is not None
