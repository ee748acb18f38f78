"""Tasks that pause themselves, and say why."""

from __future__ import annotations

import pytest

from tasks_app import ledger
from tasks_app.ledger import pausing
from tasks_app.models import Alert, Task, TaskRun
from tasks_app.services.tasks import task_resume
from tests.factories import ask, end, make_run, make_task, shift

pytestmark = pytest.mark.django_db


def run_to(task: Task, *endings: str) -> None:
    for ending in endings:
        end(make_run(task), ending)
    task.refresh_from_db()


def lose(task: Task, *, after_a_heartbeat: bool = False) -> None:
    run = make_run(task)
    (running,) = ask(1)
    if after_a_heartbeat:
        shift(TaskRun, run.pk, 20, "started_at")
    shift(TaskRun, running.run_id, 60, "lease_expires_at", "started_at")
    ledger.reap()
    task.refresh_from_db()


def test_failures_in_a_row_pause_a_task_that_asks_for_it() -> None:
    task = make_task(pause_after_failures=3)
    run_to(task, "failed", "timed_out")
    assert task.status == "active"
    run_to(task, "failed")
    assert (task.status, task.status_reason) == ("paused", "its last 3 runs failed")
    assert Alert.objects.open().get().kind == "paused_itself"


def test_a_resumed_task_starts_its_count_anew() -> None:
    task = make_task(pause_after_failures=2)
    run_to(task, "failed", "failed")
    task_resume(task_id=task.pk)
    run_to(task, "failed")
    assert task.status == "active"
    run_to(task, "failed")
    assert task.status == "paused"


def test_a_success_between_keeps_it_going() -> None:
    task = make_task(pause_after_failures=2)
    run_to(task, "failed", "succeeded", "failed")
    assert task.status == "active"


def test_a_cancelled_run_counts_neither_way() -> None:
    task = make_task(pause_after_failures=2)
    run_to(task, "failed", "cancelled", "failed")
    assert task.status == "paused"


def test_what_lies_behind_thousands_of_others_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked at each failure, within the transaction that records it."""
    monkeypatch.setattr(pausing, "LOOK_UP", 4)
    task = make_task(pause_after_failures=2)
    run_to(task, "failed", "cancelled", "cancelled", "cancelled", "failed")
    assert task.status == "active"
    run_to(task, "cancelled", "failed")
    assert task.status == "paused"


def test_a_task_that_does_not_ask_for_it_goes_on_failing() -> None:
    task = make_task()
    run_to(task, *["failed"] * 5)
    assert task.status == "active"


def test_a_task_whose_workers_die_at_once_three_times_is_paused() -> None:
    task = make_task()
    for _ in range(2):
        lose(task)
    assert task.status == "active"
    lose(task)
    assert task.status == "paused"
    assert Alert.objects.open().get().kind == "poison"


def test_workers_that_die_later_are_no_poison() -> None:
    task = make_task()
    for _ in range(4):
        lose(task, after_a_heartbeat=True)
    assert task.status == "active"


def test_the_attempts_of_one_run_count_like_runs() -> None:
    task = make_task(max_attempts=10, retry_initial_seconds=0)
    run = make_run(task)
    for _ in range(3):
        ask(1)
        shift(TaskRun, run.pk, 60, "lease_expires_at", "started_at")
        ledger.reap()
        shift(TaskRun, run.pk, 60, "due_at")
    run.refresh_from_db()
    task.refresh_from_db()
    assert (run.status, run.attempt) == ("lost", 3)
    assert task.status == "paused"
