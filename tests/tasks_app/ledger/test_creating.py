"""C1: each nominal time of an active task creates exactly one run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection

from tasks_app import ledger
from tasks_app.ledger import Doorbell
from tasks_app.models import RunEvent, Task, TaskRun
from tasks_app.services.tasks import task_pause
from tests.factories import backdate, make_run, make_task


def fires(task: Task, **filters: object) -> list[str]:
    runs = TaskRun.objects.filter(task=task, **filters).order_by("scheduled_for")
    return [run.scheduled_for.isoformat() for run in runs]


def due_task(seconds_ago: int = 1, **values: Any) -> Task:
    """An every-second task whose beat was away for so many seconds."""
    return backdate(make_task(**{"interval_seconds": 1, **values}), seconds_ago + 1)


@pytest.mark.django_db
class TestPlan:
    def test_a_due_fire_gets_a_run_with_its_nominal_time(self) -> None:
        task = backdate(make_task(interval_seconds=60), 61)
        nominal = task.next_fire_at

        planned = ledger.plan()

        run = TaskRun.objects.get(task=task)
        assert planned.run_ids == [run.pk]
        assert (run.scheduled_for, run.trigger, run.status) == (
            nominal,
            "schedule",
            "queued",
        )
        assert run.version.number == 1

    def test_planning_again_creates_nothing(self) -> None:
        task = due_task()
        first = ledger.plan()
        before = fires(task)
        assert first.run_ids
        assert set(before) <= set(fires(task))
        Task.objects.filter(pk=task.pk).update(next_fire_at=task.next_fire_at)

        ledger.plan()  # the cursor was put back: the unique key must hold

        assert len(set(fires(task))) == len(fires(task))
        assert fires(task)[: len(before)] == before

    def test_the_cursor_passes_every_fire_that_has_a_run(self) -> None:
        task = due_task(5)
        ledger.plan()
        cursor = Task.objects.get(pk=task.pk).next_fire_at
        newest = TaskRun.objects.filter(task=task).latest("scheduled_for")
        assert cursor == newest.scheduled_for + timedelta(seconds=1)

    def test_a_late_tick_runs_every_fire_within_the_grace(self) -> None:
        task = due_task(5)
        ledger.plan()
        assert len(fires(task, status="queued")) >= 5
        assert fires(task, status="skipped") == []

    @pytest.mark.parametrize(
        ("misfire", "queued", "skipped"),
        [("latest", 1, 9), ("none", 0, 10), ("all", 10, 0)],
    )
    def test_fires_missed_while_no_beat_lived_follow_the_policy(
        self, misfire: str, queued: int, skipped: int
    ) -> None:
        task = make_task(interval_seconds=3600, misfire=misfire)
        backdate(task, 10.5 * 3600)

        ledger.plan()

        assert len(fires(task, status="queued")) == queued
        assert len(fires(task, status="skipped")) == skipped
        assert not TaskRun.objects.filter(status="skipped", reason="").exists()

    def test_a_long_absence_leaves_a_summary_with_the_count(self) -> None:
        task = due_task(100_000, misfire="none")
        ledger.plan()
        summary = TaskRun.objects.get(task=task, result__isnull=False)
        rows = TaskRun.objects.filter(task=task).count()
        assert summary.result
        assert rows < 200
        assert summary.result["skipped"] + rows - 1 >= 100_000

    def test_a_paused_task_fires_nothing(self) -> None:
        task = make_task(interval_seconds=60)
        task_pause(task_id=task.pk)
        backdate(task, 3600)
        ledger.plan()
        assert fires(task) == []

    def test_a_one_off_fires_once_and_has_no_next_fire(self) -> None:
        at = ledger.database_now() + timedelta(seconds=30)
        task = backdate(make_task(at=at), 31)

        ledger.plan()
        ledger.plan()

        assert len(fires(task)) == 1
        assert Task.objects.get(pk=task.pk).next_fire_at is None

    def test_the_creation_is_recorded(self) -> None:
        run = make_run()
        event = RunEvent.objects.get(run=run)
        assert (event.kind, event.status, event.actor) == (
            "created",
            "queued",
            "user:test",
        )

    def test_a_batch_says_whether_more_is_due(self) -> None:
        for _ in range(3):
            due_task()
        assert not ledger.plan(limit=2).is_complete
        assert ledger.plan(limit=2).is_complete


@pytest.mark.usefixtures("committed")
class TestSeveralPlanners:
    def test_planners_at_the_same_time_neither_lose_nor_double_a_fire(self) -> None:
        tasks = [due_task(3) for _ in range(10)]

        def plan(_: int) -> None:
            try:
                for _round in range(5):
                    ledger.plan(limit=4)
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(plan, range(4)))
        ledger.plan()

        for task in tasks:
            times = [run.scheduled_for for run in TaskRun.objects.filter(task=task)]
            times.sort()
            assert len(times) >= 3
            gaps = {b - a for a, b in pairwise(times)}
            assert gaps <= {timedelta(seconds=1)}

    def test_ready_runs_are_told_after_the_commit(self, rung: list[Doorbell]) -> None:
        run = make_run()
        assert rung == [Doorbell(run.queue, "")]
