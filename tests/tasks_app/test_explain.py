"""Explanations: they say what the dispatcher does, with its own numbers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from tasks_app import ledger
from tasks_app.explain import Check, Explanation, explain_fire, explain_run
from tasks_app.ledger import Finish
from tasks_app.ledger.admission import queue_limits
from tasks_app.models import Breaker, Calendar, Queue, Task, TaskRun
from tasks_app.services.runs import run_cancel
from tasks_app.services.tasks import task_pause
from tests.factories import (
    ask,
    backdate,
    claim,
    end,
    make_run,
    make_task,
    make_worker,
    shift,
)
from workers_app.models import WorkerInfo
from workers_app.registration import worker_offline

pytestmark = pytest.mark.django_db


def check(explanation: Explanation, name: str) -> Check:
    (found,) = [check for check in explanation.checks if check.name == name]
    return found


def failing(explanation: Explanation) -> list[str]:
    return [check.name for check in explanation.checks if not check.passed]


class TestQueued:
    def test_nothing_holds_a_run_back_that_a_worker_may_take(self) -> None:
        make_worker("w-1")
        told = explain_run(make_run())
        assert failing(told) == []
        assert told.may_start
        assert told.summary == "nothing holds it back: it starts within 1 s on w-1"

    def test_the_first_failing_check_is_the_summary(self) -> None:
        run = make_run()
        shift(TaskRun, run.pk, -90, "due_at")
        told = explain_run(run)
        assert failing(told) == ["due", "workers"]
        assert told.summary.startswith("it is due in 1m")
        assert 80 < check(told, "due").numbers["seconds"] <= 90

    def test_a_retry_tells_what_went_wrong(self) -> None:
        make_worker()
        run = make_run(make_task(max_attempts=3))
        found = claim(run)
        error = "Traceback\n  ...\nConnectionError: gone"
        ledger.finish(
            [Finish(found.run_id, 1, "failed", error=error, retry_seconds=50)]
        )
        told = explain_run(run)
        assert told.summary.startswith("attempt 2 is due in ")
        assert "ConnectionError: gone" in check(told, "queued").detail
        assert check(told, "queued").numbers == {"attempt": 1}

    def test_a_passed_start_deadline_is_told(self) -> None:
        make_worker()
        run = make_run(make_task(start_deadline_seconds=5))
        assert "must start within" in check(explain_run(run), "start_deadline").detail
        shift(TaskRun, run.pk, 9, "start_deadline_at")
        assert failing(explain_run(run)) == ["start_deadline"]

    def test_a_full_task_tells_its_limit(self) -> None:
        make_worker()
        task = make_task(max_concurrency=2, overlap="queue")
        for _ in range(3):
            make_run(task)
        told = explain_run(make_run(task))
        assert failing(told) == ["admitted", "max_concurrency"]
        assert check(told, "max_concurrency").numbers == {"used": 2, "allowed": 2}
        assert check(told, "admitted").numbers == {"ahead": 1, "is_more": False}
        assert told.summary == "2 of the 2 runs of the task run or are about to"

    def test_a_used_up_rate_tells_when_there_is_room(self) -> None:
        make_worker()
        task = make_task(rate_limit_runs=1, rate_limit_seconds=600)
        make_run(task)
        told = explain_run(make_run(task))
        numbers = check(told, "rate_limit").numbers
        assert (numbers["used"], numbers["allowed"]) == (1, 1)
        wait = numbers["next_room_at"] - ledger.database_now()
        assert timedelta(seconds=500) < wait <= timedelta(seconds=600)
        assert ", the next is free in " in told.summary

    def test_an_open_breaker_tells_of_its_probe(self) -> None:
        make_worker()
        task = make_task(
            executor="http", command="http://127.0.0.1:9/x", payload={"method": "GET"}
        )
        assert task.target
        Breaker.objects.create(
            target=task.target,
            state="open",
            failures=5,
            opened_at=ledger.database_now(),
        )
        told = explain_run(make_run(task))
        assert failing(told) == ["admitted", "circuit_breaker"]
        assert "failed 5 times in a row: its circuit breaker is open" in told.summary
        assert check(told, "circuit_breaker").numbers["next_probe_at"]

    def test_a_full_queue_is_told(self) -> None:
        worker = make_worker()
        Queue.objects.create(name="default", max_concurrency=1)
        claim(make_run(), worker)
        told = explain_run(make_run())
        assert failing(told) == ["queue_limit"]
        assert told.summary == "1 of the 1 runs of queue default run"

    def test_each_worker_tells_why_it_does_not_take_it(self) -> None:
        make_worker("a-tags", tags=["spot"])
        make_worker("b-queue", queues=["other"])
        draining = make_worker("c-draining", tags=["gpu"])
        WorkerInfo.objects.filter(pk=draining.pk).update(is_draining=True)
        worker_offline(make_worker("d-offline", tags=["gpu"]).pk)
        told = explain_run(make_run(make_task(match="gpu and not spot")))
        assert failing(told) == ["workers"]
        assert {each.name: each.refusal for each in told.workers} == {
            "a-tags": "its tags do not fit: the run needs gpu and not spot",
            "b-queue": "it does not serve queue default",
            "c-draining": "it is draining",
        }
        assert "b-queue: it does not serve queue default" in told.summary

    def test_without_any_worker_it_says_so(self) -> None:
        told = explain_run(make_run())
        assert told.summary.endswith("none is online")

    def test_a_named_worker_that_is_offline_is_told(self) -> None:
        make_worker("other")
        worker_offline(make_worker("named").pk)
        told = explain_run(make_run(make_task(placement="worker", worker_name="named")))
        assert failing(told) == ["workers"]
        assert "named: it is offline" in told.summary

    def test_a_wish_tells_for_whom_it_waits(self) -> None:
        make_worker("a-idle")
        busy = make_worker("b-busy")
        claim(make_run(), busy)
        run = make_run(make_task(placement="least_loaded"))
        told = explain_run(run)
        assert told.may_start
        assert {each.name: each.refusal for each in told.workers} == {
            "a-idle": "",
            "b-busy": "the run waits for another worker",
        }
        worker_offline(WorkerInfo.objects.get(name="a-idle").pk)
        told = explain_run(run)
        assert failing(told) == ["wish"]
        assert told.summary.startswith("it waits ")

    def test_full_workers_and_the_runs_ahead_are_counted(self) -> None:
        worker = make_worker(max_tasks=2)
        first = make_run(make_task(priority=9))
        for _ in range(3):
            make_run()
        make_run(make_task(priority=1))
        last = make_run()
        told = explain_run(last)
        assert failing(told) == ["position"]
        assert told.may_start
        assert told.summary == "4 runs of queue default are ahead of it"
        assert check(told, "slots").numbers == {"free": 2, "slots": 2}
        claim(first, worker)
        ask(1, worker)
        told = explain_run(last)
        assert failing(told) == ["slots"]
        assert told.summary == "0 of the 2 slots of these workers are free"


class TestOthers:
    def test_a_running_run_tells_where_and_since_when(self) -> None:
        run = make_run()
        claim(run, make_worker("w-1"))
        told = explain_run(run)
        assert told.summary.startswith("it has been running on w-1 for ")
        assert check(told, "running").numbers["attempt"] == 1

    def test_an_ended_run_tells_how(self) -> None:
        run = end(make_run(), "failed", error="boom", exit_code=3)
        assert explain_run(run).summary == "it ended: failed (boom)"

    def test_a_cancelled_run_had_not_started(self) -> None:
        run = make_run()
        run_cancel(run_id=run.pk, actor="user:test")
        told = explain_run(run)
        assert told.summary == "it ended: cancelled (cancelled); it had not started"
        assert failing(told) == ["ended"]

    @pytest.mark.parametrize(
        ("values", "policy"),
        [
            ({"overlap": "skip"}, "overlap"),
            ({"placement": "broadcast", "queue": "nobody"}, "placement"),
        ],
    )
    def test_a_skipped_run_names_the_policy(
        self, values: dict[str, Any], policy: str
    ) -> None:
        task = make_task(**values)
        version = task.versions.get()
        new = ledger.NewRun(task.pk, version.pk, "schedule", task.queue)
        ids = ledger.create([new]) + ledger.create([new])
        run = TaskRun.objects.get(pk=ids[-1])
        told = explain_run(run)
        assert check(told, "ended").numbers["policy"] == policy
        assert told.summary == f"it was skipped: {run.reason}"


class TestFires:
    def test_a_fire_that_ran_tells_of_its_run(self) -> None:
        task = backdate(make_task(interval_seconds=60), 61)
        at = task.next_fire_at
        assert at
        (run_id,) = ledger.plan().run_ids
        told = explain_fire(Task.objects.get(pk=task.pk), at)
        assert told.run_ids == [run_id]
        assert told.summary.startswith(f"it has run {run_id}: ")

    def test_a_time_between_fires_tells_its_neighbours(self) -> None:
        task = make_task(cron="0 3 * * *", timezone="Europe/Berlin")
        at = ledger.database_now() + timedelta(days=2)
        at = at.replace(hour=12, minute=0, second=0, microsecond=0)
        told = explain_fire(task, at)
        numbers = check(told, "schedule").numbers
        assert numbers["before"] < at < numbers["after"]
        assert numbers["after"] - numbers["before"] < timedelta(hours=26)
        assert told.summary.startswith("the schedule does not fire then; the last")

    def test_a_fire_to_come_is_ahead(self) -> None:
        task = make_task(interval_seconds=3600)
        assert task.next_fire_at
        told = explain_fire(task, task.next_fire_at)
        assert failing(told) == ["planned"]
        assert told.summary.startswith(("it lies 59m", "it lies 1h 00m"))

    def test_a_fire_that_nobody_planned_asks_for_a_beat(self) -> None:
        task = backdate(make_task(interval_seconds=3600), 3700)
        Task.objects.filter(pk=task.pk).update(created_at="2020-01-01T00:00Z")
        task.versions.update(created_at="2020-01-01T00:00Z")
        task.refresh_from_db()
        assert task.next_fire_at
        told = explain_fire(task, task.next_fire_at)
        assert told.summary.startswith("beat has not planned it")

    def test_a_paused_task_says_that_it_is(self) -> None:
        task = make_task(interval_seconds=3600)
        task_pause(task_id=task.pk)
        task.refresh_from_db()
        assert task.next_fire_at
        told = explain_fire(task, task.next_fire_at)
        assert "active" in failing(told)
        assert told.summary.startswith("the task is paused")

    def test_a_time_before_the_task_is_told(self) -> None:
        task = make_task(interval_seconds=60)
        told = explain_fire(task, task.created_at - timedelta(days=1))
        assert "definition" in failing(told)
        assert "the task did not exist" in check(told, "definition").detail

    def test_a_blackout_is_told(self) -> None:
        task = make_task(interval_seconds=3600)
        at = task.next_fire_at
        assert at
        window = {
            "from": (at - timedelta(hours=1)).isoformat(),
            "until": (at + timedelta(hours=1)).isoformat(),
        }
        freeze = Calendar.objects.create(name="freeze", windows=[window])
        task.calendars.add(freeze)
        told = explain_fire(task, at)
        assert failing(told)[0] == "blackout"
        assert told.summary.startswith("it lies in a blackout freeze until ")

    def test_a_fire_within_a_summary_of_skipped_ones_is_found(self) -> None:
        task = backdate(make_task(interval_seconds=1, misfire="none"), 1000)
        ledger.plan()
        summary = task.runs.get(result__skipped__isnull=False)
        assert summary.result
        task.refresh_from_db()
        told = explain_fire(task, summary.scheduled_for - timedelta(seconds=10))
        assert told.run_ids == [summary.pk]
        assert check(told, "ended").numbers["policy"] == "misfire"

    def test_a_task_without_a_schedule_says_so(self) -> None:
        told = explain_fire(make_task(), ledger.database_now())
        assert told.summary == "the task has no schedule"


TASKS = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(["x", "y"]),
        "priority": st.integers(0, 9),
        "match": st.sampled_from(["", "", "gpu", "not gpu", "eu or gpu"]),
        "placement": st.sampled_from(["any", "least_loaded", "worker"]),
        "worker_name": st.sampled_from(["a", "b"]),
        "max_concurrency": st.sampled_from([None, None, 1, 2]),
        "rate_limit_runs": st.sampled_from([None, None, 1]),
    }
)
RUNS = st.tuples(
    st.sampled_from([-60, 60]),  # due in so many seconds
    st.sampled_from([None, -5, 60]),  # start deadline
    st.sampled_from([None, -5, 60]),  # the wish lasts
)
WORKERS = st.fixed_dictionaries(
    {
        "tags": st.lists(st.sampled_from(["gpu", "eu"]), unique=True),
        "queues": st.lists(st.sampled_from(["x", "y"]), min_size=1, unique=True),
        "is_draining": st.booleans(),
        "busy": st.integers(0, 1),
    }
)


class TestOneMind(TestCase):
    """What `explain` tells is what `claim` does, whatever the state."""

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.tuples(TASKS, st.lists(RUNS, min_size=1, max_size=3)), max_size=3),
        st.lists(WORKERS, min_size=1, max_size=3),
        st.sampled_from([None, 1, 2]),
    )
    def test_a_run_may_start_on_a_worker_if_and_only_if_its_claim_takes_it(
        self,
        tasks: list[tuple[dict[str, Any], list[tuple[int, int | None, int | None]]]],
        workers: list[dict[str, Any]],
        room: int | None,
    ) -> None:
        made = _make_workers(workers)
        runs = [run for task in tasks for run in _make_runs(*task)]
        if room is not None:
            Queue.objects.create(name="x", max_concurrency=room)
        for worker in made:
            # Each claim changes what is so: ask before it, about everything.
            told = {run.pk: explain_run(run) for run in runs}
            expected = {
                pk
                for pk, explanation in told.items()
                if explanation.may_start and _takes(explanation, worker)
            }
            limits = {limit.name: limit.room for limit in queue_limits(["x", "y"])}
            got = {run.run_id for run in ask(100, worker)}
            assert got <= expected
            for queue in ("x", "y"):
                of_queue = {run.pk for run in runs if run.queue == queue}
                most = limits.get(queue, 100)
                assert len(got & of_queue) == min(most, len(expected & of_queue))


def _takes(explanation: Explanation, worker: WorkerInfo) -> bool:
    return any(
        each.name == worker.name and not each.refusal for each in explanation.workers
    )


def _make_workers(workers: list[dict[str, Any]]) -> list[WorkerInfo]:
    made = []
    for name, values in zip("abc", workers, strict=False):
        worker = make_worker(name, tags=values["tags"], queues=[*values["queues"], "z"])
        for _ in range(values["busy"]):
            claim(make_run(make_task(queue="z")), worker)
        WorkerInfo.objects.filter(pk=worker.pk).update(
            is_draining=values["is_draining"]
        )
        made.append(worker)
    return made


def _make_runs(
    values: dict[str, Any], runs: list[tuple[int, int | None, int | None]]
) -> list[TaskRun]:
    is_named = values["placement"] == "worker"
    values = {**values, "match" if is_named else "worker_name": ""}
    if values["max_concurrency"]:
        values = {**values, "overlap": "queue"}
    task = make_task(**values)
    made = []
    for due, deadline, wish in runs:
        run = make_run(task)
        now = ledger.database_now()
        TaskRun.objects.filter(pk=run.pk).update(
            due_at=now + timedelta(seconds=due),
            start_deadline_at=deadline and now + timedelta(seconds=deadline),
            wanted_until=wish and now + timedelta(seconds=wish),
        )
        run.refresh_from_db()
        made.append(run)
    return made


def test_the_wait_that_is_told_is_the_workers_own() -> None:
    make_worker("w-1")
    assert f"{django_settings.POLL_SECONDS:g} s" in explain_run(make_run()).summary
