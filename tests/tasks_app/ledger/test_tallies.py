"""Roll-ups say what the runs say, whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Sum

from tasks_app import ledger
from tasks_app.ledger import tallies
from tasks_app.ledger.dialects import database_now
from tasks_app.models import RunTally, Task, TaskRun
from tasks_app.rules.states import TERMINAL
from tests.factories import claim, end, make_run, make_task, shift

pytestmark = pytest.mark.django_db

Key = tuple[datetime, int, str]
FIELDS = ("runs", "run_seconds", "wait_seconds")


def told() -> dict[Key, Any]:
    """The sums that the tallies tell."""
    rows = RunTally.objects.values_list("hour", "task_id", "status").annotate(
        *map(Sum, FIELDS)
    )
    return {
        (hour, task_id, status): [pytest.approx(value, abs=0.01) for value in values]
        for hour, task_id, status, *values in rows
    }


def told_by_hour() -> dict[tuple[datetime, str], int]:
    found = ledger.ended_by_hour(datetime(2025, 1, 1, tzinfo=UTC))
    return {(hour, status): runs for hour, status, runs in found}


def counted_by_hour() -> dict[tuple[datetime, str], int]:
    found: Counter[tuple[datetime, str]] = Counter()
    for (hour, _task_id, status), values in counted().items():
        found[hour, status] += int(values[0])
    return dict(found)


def counted() -> dict[Key, list[float]]:
    """The same, by the runs."""
    found: dict[Key, list[float]] = {}
    for run in TaskRun.objects.filter(status__in=TERMINAL):
        assert run.completed_at
        hour = run.completed_at.replace(minute=0, second=0, microsecond=0)
        sums = found.setdefault((hour, run.task_id, run.status), [0, 0, 0])
        sums[0] += 1
        if run.started_at:
            sums[1] += (run.completed_at - run.started_at).total_seconds()
            sums[2] += max(0, (run.started_at - run.due_at).total_seconds())
    return found


def skipped(task: Task) -> None:
    ledger.create(
        [
            ledger.NewRun(
                *(task.pk, task.versions.get().pk, "api", "default"), status="skipped"
            )
        ]
    )


def expired(task: Task) -> None:
    TaskRun.objects.filter(pk=make_run(task).pk).update(
        start_deadline_at=database_now() - timedelta(seconds=1)
    )
    ledger.expire()


def lost(task: Task) -> None:
    run = make_run(task)
    claim(run)
    shift(TaskRun, run.pk, 3600, "lease_expires_at")
    ledger.reap()


def cancelled(task: Task) -> None:
    ledger.cancel([make_run(task).pk], "test")


ENDS: list[Callable[[Task], object]] = [
    lambda task: end(make_run(task)),
    lambda task: end(make_run(task), "failed"),
    skipped,
    expired,
    lost,
    cancelled,
]


@pytest.mark.parametrize("ending", ENDS)
def test_each_end_is_counted_once(ending: Callable[[Task], object]) -> None:
    task = make_task()
    ending(task)
    assert sum(values[0] for values in counted().values()) == 1
    assert counted() == told()


def test_what_a_workflow_skips_is_counted() -> None:
    parent = make_task()
    make_task(make_task(parent))
    end(make_run(parent), "failed")
    assert {key[2] for key in told()} == {"failed", "skipped"}
    assert counted() == told()


def test_an_attempt_that_is_tried_again_is_not_counted() -> None:
    run = make_run(make_task(delivery="at_least_once", max_attempts=2))
    claimed = claim(run)
    ledger.finish([ledger.Finish(run.pk, claimed.attempt, "failed", retry_seconds=60)])
    assert told() == {}


def test_an_end_that_is_told_twice_is_counted_once() -> None:
    run = make_run()
    claimed = claim(run)
    for _ in range(2):
        ledger.finish([ledger.Finish(run.pk, claimed.attempt, "succeeded")])
    assert counted() == told()


def test_an_end_that_is_not_committed_is_not_counted() -> None:
    with transaction.atomic():
        end(make_run())
        transaction.set_rollback(True)
    assert told() == counted() == {}


def test_folding_changes_no_sum_and_leaves_one_row_of_a_kind() -> None:
    tasks = [make_task(), make_task()]
    for task in tasks:
        for status in ("succeeded", "succeeded", "failed"):
            end(make_run(task), status)
    before = told()
    assert tallies.fold() == 2
    assert told() == before == counted()
    assert RunTally.objects.count() == len(before)
    assert tallies.fold() == 0


def test_the_hours_tell_the_same_before_a_fold_and_after_each() -> None:
    tasks = [make_task(), make_task()]
    for _ in range(3):
        for task in tasks:
            end(make_run(task))
        end(make_run(tasks[0]), "failed")
        assert told_by_hour() == counted_by_hour()
        tallies.fold()
        assert told_by_hour() == counted_by_hour()
        assert told() == counted()
    assert RunTally.objects.count() == 3


def test_a_fold_leaves_the_rows_of_tasks_alone_that_have_no_new_end() -> None:
    quiet, busy = make_task(), make_task()
    end(make_run(quiet))
    tallies.fold()
    (row,) = RunTally.objects.filter(task=quiet)
    end(make_run(busy))
    tallies.fold()
    assert RunTally.objects.get(task=quiet).pk == row.pk


@pytest.mark.django_db(transaction=True)
def test_an_end_beside_a_fold_is_counted_once() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    task = make_task()
    end(make_run(task))
    run = make_run(task)
    claimed = claim(run)
    finish = ledger.Finish(run.pk, claimed.attempt, "succeeded")
    with ThreadPoolExecutor(1) as other, transaction.atomic():
        ledger.finish([finish])
        other.submit(_fold_and_close).result()
    assert told_by_hour() == counted_by_hour()
    tallies.fold()
    assert told_by_hour() == counted_by_hour()
    assert told() == counted()


def _fold_and_close() -> None:
    tallies.fold()
    connection.close()


def test_folding_leaves_hours_alone_that_are_long_over() -> None:
    run = end(make_run())
    old = datetime(2025, 3, 1, 12, tzinfo=UTC)
    for _ in range(2):
        RunTally.objects.create(
            hour=old,
            task=run.task,
            status="failed",
            runs=1,
            run_seconds=1,
            wait_seconds=0,
        )
    assert tallies.fold() == 0
    assert tallies.fold(old) == 1
    assert RunTally.objects.get(hour=old).runs == 2


def test_the_hour_is_that_of_the_end_in_utc() -> None:
    run = end(make_run())
    assert run.completed_at
    hour = RunTally.objects.get().hour
    assert timedelta(0) <= run.completed_at - hour < timedelta(hours=1)
    assert (hour.minute, hour.second, hour.microsecond) == (0, 0, 0)
