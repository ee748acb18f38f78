"""A look: whether a claim would find anything, for next to nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_app import ledger
from tasks_app.models import TaskRun
from tests.factories import ask, make_run, make_task, make_worker, shift

pytestmark = pytest.mark.django_db


def test_nothing_waits_in_an_empty_queue() -> None:
    make_run(make_task(queue="other"))
    assert not ledger.waits(["default"], make_worker().pk)


def test_a_run_waits_until_it_is_claimed() -> None:
    make_run(make_task(queue="second"))
    worker = make_worker(queues=["first", "second"])
    assert ledger.waits(worker.queues, worker.pk)

    ask(worker=worker)

    assert not ledger.waits(worker.queues, worker.pk)


def test_a_run_in_a_lane_waits_as_well() -> None:
    make_run(make_task(match="gpu"))
    assert ledger.waits(["default"], make_worker(tags=["gpu"]).pk)


def test_a_run_that_is_not_due_does_not_wait_yet() -> None:
    run = make_run()
    shift(TaskRun, run.pk, -60, "due_at")
    assert not ledger.waits(["default"], make_worker().pk)


def test_a_run_that_a_limit_holds_does_not_wait() -> None:
    task, worker = make_task(max_concurrency=1, overlap="queue"), make_worker()
    make_run(task)
    make_run(task)
    ask(worker=worker)
    assert not ledger.waits(["default"], worker.pk)


def test_a_look_is_one_statement(django_assert_num_queries: Any) -> None:
    worker = make_worker()
    ledger.waits(["default"], worker.pk)  # reads the days that have unfinished runs
    with django_assert_num_queries(1):
        ledger.waits(["default", "other"], worker.pk)
