"""C3: a doorbell is only a hint, and a lost one is rung again."""

from __future__ import annotations

import pytest

from tasks_app import ledger
from tasks_app.models import TaskRun
from tests.factories import claim, end, make_run, make_task, shift

pytestmark = pytest.mark.django_db


def published() -> list[int]:
    return [doorbell.run_id for doorbell in ledger.publish(100)]


def test_a_new_run_is_published_once() -> None:
    run = make_run(make_task(queue="reports"))
    (doorbell,) = ledger.publish(100)
    assert (doorbell.run_id, doorbell.queue) == (run.pk, "reports")
    assert published() == []


def test_a_lost_doorbell_is_rung_again_ever_less_often() -> None:
    run = make_run()
    waits = []
    for _ in range(8):
        published()
        row = TaskRun.objects.get(pk=run.pk)
        assert row.published_at
        waits.append(round((row.next_publish_at - row.published_at).total_seconds()))
        shift(TaskRun, run.pk, 10_000, "next_publish_at")
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]


def test_a_claimed_run_is_not_rung_for() -> None:
    claim(make_run())
    assert published() == []


def test_a_retry_is_rung_for_when_it_is_due() -> None:
    run = make_run(make_task(max_attempts=2))
    published()
    end(run, "failed", retry_seconds=30.0)
    assert published() == []
    shift(TaskRun, run.pk, 31, "next_publish_at")
    assert published() == [run.pk]


def test_a_doorbell_that_was_not_sent_is_due_again_soon() -> None:
    run = make_run()
    published()
    ledger.unpublish([run.pk])
    shift(TaskRun, run.pk, 2, "next_publish_at")
    assert published() == [run.pk]


def test_only_the_given_runs_are_rung_for() -> None:
    runs = [make_run() for _ in range(3)]
    doorbells = ledger.publish(100, [runs[1].pk])
    assert [doorbell.run_id for doorbell in doorbells] == [runs[1].pk]


def test_the_longest_due_goes_first() -> None:
    runs = [make_run() for _ in range(3)]
    shift(TaskRun, runs[2].pk, 10, "due_at", "next_publish_at")
    assert published() == [runs[2].pk, runs[0].pk, runs[1].pk]


def test_the_time_of_the_next_doorbell_is_known() -> None:
    assert ledger.next_publish_at() is None
    run = make_run()
    assert ledger.next_publish_at() == run.next_publish_at
