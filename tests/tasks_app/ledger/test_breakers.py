"""Circuit breakers: a target that fails is left alone, and one probe goes first."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_app import ledger
from tasks_app.ledger import Finish
from tasks_app.models import Alert, Breaker, Task, TaskRun
from tests.factories import ask, make_run, make_task, shift

pytestmark = pytest.mark.django_db

TARGET = "api.example.com:443"


@pytest.fixture(autouse=True)
def _three_failures_open(settings: Any) -> None:
    settings.BREAKER_FAILURES = 3


def calling(target: str = TARGET) -> Task:
    task = make_task(executor="http", command=f"https://{target}/")
    Task.objects.filter(pk=task.pk).update(target=target)
    task.refresh_from_db()
    return task


def end(
    status: str = "failed", reason: str = "connection_failed", **values: Any
) -> int:
    """Claim the best run and end it; returns its id."""
    (running,) = ask(1)
    ledger.finish(
        [Finish(running.run_id, running.attempt, status, reason=reason, **values)]
    )
    return running.run_id


def open_breaker() -> Task:
    task = calling()
    for _ in range(3):
        make_run(task)
        end()
    return task


def state() -> str:
    return Breaker.objects.get(target=TARGET).state


def test_failures_in_a_row_open_it_and_an_alert_says_so() -> None:
    open_breaker()
    assert state() == "open"
    assert TARGET in Alert.objects.open().get().message


def test_a_success_between_starts_the_count_anew() -> None:
    task = calling()
    for ending in ("failed", "failed", "succeeded", "failed", "failed"):
        make_run(task)
        end(ending, "" if ending == "succeeded" else "timeout")
    assert state() == "closed"


def test_a_target_that_answers_is_well_whatever_it_says() -> None:
    task = calling()
    for _ in range(5):
        make_run(task)
        end(reason="unexpected_status", result={"status": 404})
    assert not Breaker.objects.exists()


def test_a_target_that_answers_with_its_own_failure_is_not() -> None:
    task = calling()
    for _ in range(3):
        make_run(task)
        end(reason="unexpected_status", result={"status": 503})
    assert state() == "open"


def test_while_it_is_open_runs_wait_those_that_are_queued_and_those_that_come() -> None:
    task = calling()
    runs = [make_run(task) for _ in range(4)]
    for _ in range(3):
        end()
    late = make_run(calling())
    assert ask(10) == []
    for run in (runs[3], late):
        run.refresh_from_db()
        assert (run.status, run.admission) == ("queued", "held")
    assert ledger.limits(task.pk)[0].name == "circuit_breaker"


def test_other_targets_go_on() -> None:
    open_breaker()
    run = make_run(calling("other.example.com:443"))
    assert [found.run_id for found in ask(10)] == [run.pk]


def test_after_the_pause_one_probe_goes_first() -> None:
    task = open_breaker()
    first = make_run(task)
    make_run(task)
    assert ledger.probe() == 0
    shift(Breaker, TARGET, 31, "opened_at")
    assert ledger.probe() == 1
    assert state() == "half_open"
    ledger.admit_waiting()
    assert [found.run_id for found in ask(10)] == [first.pk]
    assert ledger.probe() == 0


def test_a_probe_that_succeeds_closes_it_and_lets_the_others_go() -> None:
    task = open_breaker()
    make_run(task)
    second = make_run(task)
    shift(Breaker, TARGET, 31, "opened_at")
    ledger.probe()
    end("succeeded", "")
    assert state() == "closed"
    assert not Alert.objects.open().exists()
    assert [found.run_id for found in ask(10)] == [second.pk]


def test_a_probe_that_fails_opens_it_for_another_pause() -> None:
    task = open_breaker()
    make_run(task)
    make_run(task)
    shift(Breaker, TARGET, 31, "opened_at")
    ledger.probe()
    end()
    assert state() == "open"
    assert ledger.probe() == 0
    assert ask(10) == []


def test_a_probe_that_tells_nothing_is_followed_by_another() -> None:
    task = open_breaker()
    first = make_run(task)
    second = make_run(task)
    shift(Breaker, TARGET, 31, "opened_at")
    ledger.probe()
    ledger.cancel([first.pk], "user:test")
    assert ledger.probe() == 1
    assert state() == "half_open"
    assert [found.run_id for found in ask(10)] == [second.pk]


def test_a_retry_of_a_failed_call_waits_as_well() -> None:
    task = calling()
    Task.objects.filter(pk=task.pk).update(max_attempts=5, delivery="at_least_once")
    runs = [make_run(task) for _ in range(3)]
    for _ in range(3):
        end(retry_seconds=0)
    assert state() == "open"
    assert set(TaskRun.objects.values_list("admission", flat=True)) == {"held"}
    assert ask(len(runs)) == []
