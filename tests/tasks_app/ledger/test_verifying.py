"""The verifier sees each breach that is planted, and none in an honest ledger."""

from __future__ import annotations

import inspect
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from tasks_app import ledger
from tasks_app.choices import TaskStatus
from tasks_app.ledger.verifying import MEANINGS, Finding, Verifier
from tasks_app.models import RunEvent, Task, TaskRun, TaskVersion
from tasks_app.services.runs import run_cancel
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import task_delete, task_resume, task_update
from tests.factories import end, make_run, make_task, make_worker

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def findings(**window: Any) -> list[Finding]:
    verifier = Verifier(**window)
    return [
        found for task_id in verifier.task_ids() for found in verifier.findings(task_id)
    ]


def kinds(**window: Any) -> list[str]:
    return [found.kind for found in findings(**window)]


def planned_task(hours: int = 10, **values: Any) -> Task:
    """An hourly task that was defined so many hours ago, with a row for each fire."""
    start = ledger.database_now().replace(microsecond=0) - hours * HOUR - HOUR / 2
    values = {"interval_seconds": 3600, "start_at": start, "misfire": "all", **values}
    task = make_task(**values)
    Task.objects.filter(pk=task.pk).update(next_fire_at=start + SECOND)
    define(task, start)
    ledger.plan(task_ids=[task.pk])
    task.refresh_from_db()
    return task


def paused_task() -> Task:
    """One that was paused five hours ago, and is yet."""
    task = planned_task()
    cursor = ledger.database_now() - 5 * HOUR
    TaskRun.objects.filter(task=task, scheduled_for__gte=cursor).delete()
    Task.objects.filter(pk=task.pk).update(
        status=TaskStatus.PAUSED, next_fire_at=cursor
    )
    return task


def define(task: Task, at: datetime, number: int = 1) -> None:
    """Put the moment at which a version became the current one."""
    TaskVersion.objects.filter(task=task, number=number).update(created_at=at)


def first_fire(task: Task) -> TaskRun:
    return TaskRun.objects.filter(task=task).order_by("scheduled_for")[0]


UNGUARDED = {
    "postgresql": (
        "SET CONSTRAINTS ALL IMMEDIATE",
        "ALTER TABLE tasks_app_taskrun DISABLE TRIGGER run_outcome_is_final",
        "ALTER TABLE tasks_app_taskrun DROP CONSTRAINT IF EXISTS run_running_has_lease",
    ),
    "sqlite": (
        "DROP TRIGGER IF EXISTS run_outcome_is_final",
        "PRAGMA ignore_check_constraints = ON",
    ),
}


def plant(run: TaskRun, **values: Any) -> None:
    """Set columns of a run that its constraints and its trigger would refuse."""
    columns = ", ".join(f"{name} = %s" for name in values)
    with connection.cursor() as cursor:
        for statement in UNGUARDED[connection.vendor]:
            cursor.execute(statement)
        try:
            cursor.execute(
                f"UPDATE tasks_app_taskrun SET {columns} WHERE id = %s",
                [*values.values(), run.pk],
            )
        finally:
            # The pragma outlives the test's transaction, which undoes the others.
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA ignore_check_constraints = OFF")


def event(run: TaskRun, kind: str, attempt: int, status: str) -> None:
    RunEvent.objects.create(
        run=run, kind=kind, attempt=attempt, status=status, at=ledger.database_now()
    )


def ended_run(**values: Any) -> TaskRun:
    return end(make_run(make_task(**values)))


@pytest.mark.django_db
class TestAnHonestLedger:
    def test_has_no_findings(self) -> None:
        ended_run()
        end(make_run(), "failed")
        end(make_run(make_task(max_attempts=2)), "failed", retry_seconds=60)
        run_cancel(run_id=make_run().pk, actor="user:test")
        planned_task()
        planned_task(misfire="latest")
        planned_task(cron="0 * * * *", interval_seconds=None)
        planned_task(hours=300, misfire="none")  # beyond 100 skips, one summary row
        make_run()
        make_task()
        assert findings() == []

    def test_is_counted(self) -> None:
        planned_task(hours=300, misfire="none")
        verifier = Verifier()
        found = [
            found
            for task_id in verifier.task_ids()
            for found in verifier.findings(task_id)
        ]
        assert found == []
        assert verifier.checked.fires >= 299
        assert verifier.checked.runs < 110
        assert verifier.checked.events == verifier.checked.runs

    def test_may_have_changed_its_schedules(self) -> None:
        task = planned_task()
        task_update(task_id=task.pk, values={"timeout_seconds": 5})
        task_update(
            task_id=task.pk,
            values={},
            schedule=ScheduleInput(interval_seconds=7200),
        )
        assert findings() == []

    def test_may_have_deleted_tasks(self) -> None:
        task_delete(task_id=planned_task().pk, actor="user:test")
        assert findings() == []

    def test_owes_no_fires_during_a_pause(self) -> None:
        paused_task()
        assert findings() == []

    def test_has_accounted_for_a_pause_that_ended(self) -> None:
        task = paused_task()
        task_resume(task_id=task.pk)
        assert TaskRun.objects.filter(task=task).count() >= 10
        assert findings() == []

    def test_may_have_changed_a_schedule_during_a_pause(self) -> None:
        task = paused_task()
        task_update(
            task_id=task.pk, values={}, schedule=ScheduleInput(interval_seconds=7200)
        )
        assert findings() == []
        task_resume(task_id=task.pk)
        assert findings() == []


@pytest.mark.django_db
class TestFires:
    def test_a_hole_is_named_with_its_task_and_times(self) -> None:
        task = planned_task()
        gone = TaskRun.objects.filter(task=task).order_by("scheduled_for")[2:4]
        times = [run.scheduled_for for run in gone]
        TaskRun.objects.filter(scheduled_for__in=times).delete()

        (found,) = findings()

        assert (found.kind, found.task, found.count) == ("gap", task.name, 2)
        assert [found.at, found.last] == times

    def test_a_cursor_that_ran_ahead_leaves_a_hole(self) -> None:
        task = planned_task()
        TaskRun.objects.filter(task=task).order_by("-scheduled_for")[0].delete()
        assert kinds() == ["gap"]

    def test_a_fire_with_two_runs_is_named(self) -> None:
        task = planned_task()
        run = first_fire(task)
        with connection.cursor() as cursor:
            prefix = "first_" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP INDEX {prefix}run_unique_fire")
        ledger.create(
            [
                ledger.NewRun(
                    task_id=task.pk,
                    version_id=run.version_id,
                    trigger="schedule",
                    queue="default",
                    scheduled_for=run.scheduled_for,
                )
            ]
        )
        (found,) = findings()
        assert (found.kind, found.at) == ("duplicate", run.scheduled_for)

    def test_a_run_at_a_time_of_no_schedule_is_named(self) -> None:
        run = first_fire(planned_task())
        at = run.scheduled_for + timedelta(minutes=1)
        TaskRun.objects.filter(pk=run.pk).update(scheduled_for=at)
        assert sorted(kinds()) == ["gap", "stray"]

    def test_a_summary_that_does_not_add_up_is_named(self) -> None:
        task = planned_task(hours=300, misfire="none")
        run = TaskRun.objects.get(task=task, result__isnull=False)
        assert run.result
        plant(run, result=json.dumps({**run.result, "skipped": 3}))
        assert kinds() == ["miscounted"]

    def test_a_task_that_nobody_plans_is_named(self) -> None:
        task = planned_task()
        Task.objects.filter(pk=task.pk).update(
            next_fire_at=first_fire(task).scheduled_for
        )
        TaskRun.objects.all().delete()
        assert kinds() == ["unplanned"]

    def test_an_active_task_that_lost_its_cursor_is_named(self) -> None:
        task = planned_task()
        Task.objects.filter(pk=task.pk).update(next_fire_at=None)
        assert kinds() == ["unplanned"]

    def test_a_broadcast_without_one_of_its_runs_is_named(self) -> None:
        run = first_fire(planned_task())
        TaskRun.objects.filter(pk=run.pk).update(shard_total=2)
        assert kinds() == ["shards"]

    def test_a_definition_that_cannot_be_read_is_named(self) -> None:
        version = TaskVersion.objects.get(
            task=planned_task(cron="0 * * * *", interval_seconds=None)
        )
        version.definition["timezone"] = "Mars/Olympus"
        version.save()
        assert kinds() == ["unreadable"]

    def test_what_is_outside_of_the_window_is_not_looked_at(self) -> None:
        gone = first_fire(planned_task())
        at = gone.scheduled_for
        gone.delete()
        assert kinds(since=at - HOUR) == ["gap"]
        assert kinds(since=at + SECOND) == []
        assert kinds(until=at) == ["gap"]
        assert kinds(until=at - SECOND) == []


@pytest.mark.django_db
class TestRuns:
    def test_a_second_outcome_is_named(self) -> None:
        run = ended_run()
        event(run, "finished", 1, "failed")
        (found,) = findings()
        assert (found.kind, found.run_id) == ("two_outcomes", run.pk)

    def test_an_end_that_was_overwritten_is_named(self) -> None:
        plant(ended_run(), status="failed")
        assert kinds() == ["outcome_differs"]

    def test_a_run_that_came_back_to_life_is_named(self) -> None:
        plant(ended_run(), status="queued", completed_at=None)
        assert kinds() == ["changed_after_end"]

    def test_a_second_start_of_an_at_most_once_run_is_named(self) -> None:
        run = ended_run()
        RunEvent.objects.filter(run=run, kind="finished").delete()
        event(run, "retried", 1, "queued")
        event(run, "started", 2, "running")
        event(run, "finished", 2, "succeeded")
        assert kinds() == ["started_twice"]

    def test_more_attempts_than_allowed_are_named(self) -> None:
        run = ended_run(delivery="at_least_once")
        RunEvent.objects.filter(run=run, kind="finished").delete()
        event(run, "retried", 1, "queued")
        event(run, "started", 2, "running")
        event(run, "finished", 2, "succeeded")
        assert kinds() == ["too_many_attempts"]

    def test_attempts_that_overlap_are_named(self) -> None:
        run = ended_run(max_attempts=3)
        RunEvent.objects.filter(run=run, kind="finished").delete()
        event(run, "started", 2, "running")
        event(run, "finished", 2, "succeeded")
        assert kinds() == ["overlapping_attempts"]

    def test_a_running_run_without_a_lease_is_named(self) -> None:
        run = make_run()
        plant(
            run,
            status="running",
            attempt=1,
            worker_id=make_worker().pk,
            started_at=ledger.database_now(),
        )
        event(run, "started", 1, "running")
        assert kinds() == ["no_lease"]

    @pytest.mark.parametrize(
        ("kind", "column"),
        [
            ("not_reaped", "lease_expires_at"),
            ("past_timeout", "started_at"),
            ("cancel_ignored", "cancel_requested_at"),
        ],
    )
    def test_a_running_run_past_a_deadline_is_named(
        self, kind: str, column: str
    ) -> None:
        run = make_run(make_task(timeout_seconds=1))
        now = ledger.database_now()
        times = {"started_at": now, "lease_expires_at": now, column: now - HOUR}
        plant(run, status="running", attempt=1, worker_id=1, **times)
        event(run, "started", 1, "running")
        assert kinds() == [kind]

    def test_a_queued_run_past_its_start_deadline_is_named(self) -> None:
        run = make_run()
        past = ledger.database_now() - HOUR
        TaskRun.objects.filter(pk=run.pk).update(start_deadline_at=past)
        assert kinds() == ["not_expired"]

    def test_a_deadline_that_has_just_passed_is_left_to_the_upkeep(self) -> None:
        run = make_run()
        past = timedelta(seconds=settings.LEASE_SECONDS)
        TaskRun.objects.filter(pk=run.pk).update(
            start_deadline_at=ledger.database_now() - past
        )
        assert kinds() == []

    def test_more_runs_at_a_time_than_the_limit_are_named(self) -> None:
        task = make_task()
        version = TaskVersion.objects.get(task=task)
        version.definition["max_concurrency"] = 1
        version.save()
        runs = [make_run(task), make_run(task)]
        for run in runs:
            event(run, "started", 1, "running")
        for run in runs:
            event(run, "finished", 1, "succeeded")
            plant(
                run, status="succeeded", completed_at=ledger.database_now(), attempt=1
            )

        (found,) = findings()

        assert (found.kind, found.run_id) == ("over_limit", runs[1].pk)


def test_each_kind_of_finding_has_its_test() -> None:
    tests = inspect.getsource(TestFires) + inspect.getsource(TestRuns)
    assert [kind for kind in MEANINGS if f'"{kind}"' not in tests] == []
