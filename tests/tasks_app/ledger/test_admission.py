"""C10: limits decide in one place how many of a task's runs may go on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from tasks_app import ledger
from tasks_app.ledger import Claimant, Doorbell, Finish
from tasks_app.ledger.admission import limits
from tasks_app.models import Project, Queue, RateStart, Task, TaskRun
from tasks_app.services.tasks import task_update
from tests.factories import ask, claimant_of, make_run, make_task, make_worker, shift

pytestmark = pytest.mark.django_db


def limited(runs: int = 1, **values: Any) -> Task:
    return make_task(overlap="queue", max_concurrency=runs, **values)


def admissions(task: Task) -> list[str]:
    return list(task.runs.order_by("id").values_list("admission", flat=True))


def finish(run: ledger.ClaimedRun, **values: Any) -> None:
    ledger.finish([Finish(run.run_id, run.attempt, "succeeded", **values)])


class TestConcurrency:
    def test_no_more_runs_go_on_than_the_task_allows(self) -> None:
        task = limited(2)
        for _ in range(4):
            make_run(task)
        assert admissions(task) == ["admitted", "admitted", "held", "held"]
        assert len(ask(10)) == 2

    def test_an_end_lets_the_next_one_in(self) -> None:
        task = limited(1)
        first, second = make_run(task), make_run(task)
        (running,) = ask(10)
        assert running.run_id == first.pk
        finish(running)
        assert [run.run_id for run in ask(10)] == [second.pk]

    def test_the_best_of_those_that_wait_goes_next(self) -> None:
        task = limited(1)
        _running, low, high = (make_run(task) for _ in range(3))
        TaskRun.objects.filter(pk=high.pk).update(priority=9)
        finish(*ask(10))
        assert [run.run_id for run in ask(10)] == [high.pk]
        low.refresh_from_db()
        assert low.admission == "held"

    def test_a_cancelled_and_an_expired_run_make_room(self) -> None:
        task = limited(1, start_deadline_seconds=60)
        first, second, third = (make_run(task) for _ in range(3))
        ledger.cancel([first.pk], "user:test")
        assert admissions(task) == ["admitted", "admitted", "held"]
        shift(TaskRun, second.pk, 61, "start_deadline_at")
        ledger.expire()
        third.refresh_from_db()
        assert third.admission == "admitted"

    def test_a_lost_run_makes_room(self) -> None:
        task = limited(1)
        make_run(task)
        second = make_run(task)
        (running,) = ask(10)
        shift(TaskRun, running.run_id, 60, "lease_expires_at")
        ledger.reap()
        assert [run.run_id for run in ask(10)] == [second.pk]

    def test_a_retry_that_waits_leaves_its_room_to_others(self) -> None:
        task = limited(1, max_attempts=2)
        first, second = make_run(task), make_run(task)
        (running,) = ask(10)
        ledger.finish([Finish(running.run_id, 1, "failed", retry_seconds=60)])
        assert [run.run_id for run in ask(10)] == [second.pk]
        shift(TaskRun, first.pk, 61, "due_at")
        ledger.admit_waiting()
        assert ask(10) == []

    def test_a_run_that_is_not_due_takes_no_room(self) -> None:
        task = limited(1)
        later, now = make_run(task), make_run(task)
        TaskRun.objects.update(admission="held")
        shift(TaskRun, later.pk, -60, "due_at")
        ledger.admit_waiting()
        assert [run.run_id for run in ask(10)] == [now.pk]

    def test_a_changed_limit_holds_and_admits_anew(self) -> None:
        task = limited(1)
        for _ in range(3):
            make_run(task)
        task_update(task_id=task.pk, values={"max_concurrency": 2})
        ledger.hold([task.pk])
        assert admissions(task) == ["admitted", "admitted", "held"]

    def test_a_task_without_limits_holds_nothing(self) -> None:
        task = make_task()
        for _ in range(3):
            make_run(task)
        assert admissions(task) == ["free"] * 3

    def test_what_is_admitted_is_rung_for(
        self, rung: list[Doorbell], django_capture_on_commit_callbacks: Any
    ) -> None:
        task = limited(1)
        with django_capture_on_commit_callbacks(execute=True):
            make_run(task)
            make_run(task)
        assert rung == [Doorbell("default", "")]
        with django_capture_on_commit_callbacks(execute=True):
            finish(*ask(10))
        assert rung == [Doorbell("default", "")] * 2


class TestRates:
    def test_no_more_runs_start_within_the_span(self) -> None:
        task = make_task(rate_limit_runs=2, rate_limit_seconds=60)
        for _ in range(3):
            make_run(task)
        for running in ask(10):
            finish(running)
        assert admissions(task) == ["admitted", "admitted", "held"]
        ledger.admit_waiting()
        assert ask(10) == []

    def test_the_span_moves_on(self) -> None:
        task = make_task(rate_limit_runs=1, rate_limit_seconds=60)
        make_run(task)
        second = make_run(task)
        finish(*ask(10))
        shift(RateStart, RateStart.objects.get().pk, 61, "at")
        ledger.admit_waiting()
        assert [run.run_id for run in ask(10)] == [second.pk]

    def test_a_project_s_rate_counts_all_its_tasks(self) -> None:
        project = Project.objects.create(name="reports", rate_limit_runs=2)
        tasks = [make_task(project=project) for _ in range(3)]
        for task in tasks:
            make_run(task)
        assert [admissions(task) for task in tasks] == [
            ["admitted"],
            ["admitted"],
            ["held"],
        ]

    def test_counted_starts_are_forgotten_after_the_longest_span(self) -> None:
        make_run(make_task(rate_limit_runs=1))
        start = RateStart.objects.get()
        ledger.forget_starts()
        assert RateStart.objects.exists()
        shift(RateStart, start.pk, 86_401, "at")
        ledger.forget_starts()
        assert not RateStart.objects.exists()


def test_the_limits_tell_their_numbers() -> None:
    task = limited(3, rate_limit_runs=5)
    make_run(task)
    found = [(limit.name, limit.used, limit.allowed) for limit in limits(task.pk)]
    assert found == [("max_concurrency", 1, 3), ("rate_limit", 1, 5)]


class TestQueues:
    def test_a_queue_s_limit_holds_over_all_workers(self) -> None:
        Queue.objects.create(name="default", max_concurrency=3)
        for _ in range(5):
            make_run()
        assert [len(ask(2)), len(ask(2)), len(ask(2))] == [2, 1, 0]
        running = TaskRun.objects.filter(status="running").earliest("id")
        ledger.finish([Finish(running.pk, 1, "succeeded")])
        assert len(ask(2)) == 1

    def test_a_first_limit_holds_for_who_has_not_heard_of_it(self) -> None:
        claimant = claimant_of(make_worker())
        expected = ledger.outlook(claimant)
        Queue.objects.create(name="default", max_concurrency=1)
        for _ in range(3):
            make_run()
        assert ledger.claim(claimant, 2, expected) == []
        assert len(ledger.claim(claimant, 2, ledger.outlook(claimant))) == 1


class TestCap:
    def test_a_fire_beyond_the_cap_is_skipped_with_the_reason(self) -> None:
        task = make_task(max_queued=2, interval_seconds=3600)
        runs = [make_run(task) for _ in range(2)]
        new = ledger.NewRun(
            task.pk, runs[0].version_id, "schedule", "default", due_at=None
        )
        (run_id,) = ledger.create([new])
        run = TaskRun.objects.get(pk=run_id)
        assert (run.status, run.reason) == (
            "skipped",
            "2 runs of the task wait already (max_queued)",
        )


class TestOverlap:
    def fire(self, task: Task) -> TaskRun:
        version = task.versions.get()
        (run_id,) = ledger.create(
            [ledger.NewRun(task.pk, version.pk, "api", task.queue)]
        )
        return TaskRun.objects.get(pk=run_id)

    def test_skip_names_the_run_that_is_in_the_way(self) -> None:
        task = make_task(overlap="skip", max_concurrency=1)
        first = self.fire(task)
        ask(1)
        second = self.fire(task)
        assert second.status == "skipped"
        assert second.reason == f"overlap: run {first.pk} has not ended (policy skip)"

    def test_after_the_end_skip_lets_the_next_one_run(self) -> None:
        task = make_task(overlap="skip", max_concurrency=1)
        self.fire(task)
        finish(*ask(1))
        assert self.fire(task).status == "queued"

    def test_replace_cancels_the_oldest_and_waits_for_its_end(self) -> None:
        task = make_task(overlap="replace", max_concurrency=1)
        first = self.fire(task)
        (running,) = ask(1)
        second = self.fire(task)
        first.refresh_from_db()
        assert first.cancel_requested_at
        assert ask(1) == []
        ledger.finish([Finish(running.run_id, 1, "cancelled", reason="cancelled")])
        assert [run.run_id for run in ask(1)] == [second.pk]

    def test_replace_takes_the_place_of_one_that_has_not_started(self) -> None:
        task = make_task(overlap="replace", max_concurrency=1)
        first, second = self.fire(task), self.fire(task)
        first.refresh_from_db()
        assert (first.status, first.reason) == (
            "cancelled",
            f"replaced by run {second.pk}",
        )
        assert [run.run_id for run in ask(1)] == [second.pk]

    def test_a_backfill_waits_instead(self) -> None:
        task = make_task(overlap="skip", max_concurrency=1)
        version = task.versions.get()
        new = ledger.NewRun(task.pk, version.pk, "backfill", task.queue)
        ledger.create([new, new])
        assert admissions(task) == ["admitted", "held"]


@pytest.mark.usefixtures("committed")
class TestTogether:
    def in_threads(self, act: Callable[[int], Any], count: int) -> list[Any]:
        def apart(number: int) -> Any:
            try:
                return act(number)
            finally:
                connection.close()

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(apart, range(count)))

    def test_twenty_claimers_never_run_more_than_the_task_allows(self) -> None:
        task = limited(3)
        for _ in range(40):
            make_run(task)
        workers = [make_worker().pk for _ in range(10)]

        def work(number: int) -> list[int]:
            seen = []
            for _ in range(6):
                running = ledger.claim(Claimant(workers[number], ("default",)), 5)
                seen.append(task.runs.filter(status="running").count())
                for run in running:
                    with transaction.atomic():
                        finish(run)
            return seen

        counts = [count for seen in self.in_threads(work, 10) for count in seen]
        assert 0 < max(counts) <= 3
        left = task.runs.filter(status="queued")
        assert left.filter(admission="admitted").count() == min(3, left.count())

    def test_two_fires_at_a_time_do_not_both_find_themselves_alone(self) -> None:
        task = make_task(overlap="skip", max_concurrency=1)

        def fire(_number: int) -> str:
            return TestOverlap().fire(task).status

        assert sorted(self.in_threads(fire, 8)) == ["queued"] + ["skipped"] * 7


def test_an_end_of_a_free_run_touches_no_limit(
    django_assert_max_num_queries: Any,
) -> None:
    run = make_run()
    (running,) = ask(1)
    with django_assert_max_num_queries(8):
        finish(running)
    run.refresh_from_db()
    assert run.status == "succeeded"
