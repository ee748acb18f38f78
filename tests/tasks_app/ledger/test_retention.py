"""Retention: what is old goes, what is not over stays, and nobody takes it for lost."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from tasks_app import ledger
from tasks_app.explain import explain_fire
from tasks_app.ledger.dialects import database_now, fetch
from tasks_app.ledger.partitions import Partition, drop, partitions
from tasks_app.ledger.retention import (
    Rule,
    count_old,
    drop_month,
    due_months,
    remove_old,
    rules,
    rules_in_batches,
    unfinished_roots,
)
from tasks_app.ledger.verifying import Verifier
from tasks_app.models import (
    HistoryStart,
    Project,
    RunEvent,
    RunLog,
    RunTally,
    Task,
    TaskRun,
)
from tests.factories import ask, end, make_task, shift
from tests.tasks_app.ledger.test_partitions import make_month
from tests.tasks_app.ledger.test_verifying import planned_task

pytestmark = pytest.mark.django_db
ON_POSTGRESQL = connection.vendor == "postgresql"
DAY = 24 * 3600.0


def today() -> date:
    return database_now().date()


def fire_days_ago(task: Task, days: int) -> int:
    """A fire that was planned when it was due, so many days ago."""
    (run_id,) = ledger.create(
        [
            ledger.NewRun(
                *(task.pk, task.versions.latest("number").pk, "schedule", "default"),
                scheduled_for=database_now() - timedelta(days=days),
            )
        ]
    )
    shift(TaskRun, run_id, days * DAY, "created_at", "due_at")
    return run_id


def old_run(task: Task, days: int) -> int:
    """One of these that has ended, with output."""
    run_id = fire_days_ago(task, days)
    ledger.append_logs([ledger.LogChunk(run_id, 1, 1, "stdout", "x")])
    end(TaskRun.objects.get(pk=run_id))
    return run_id


def remove(task: Task) -> int:
    """Remove what is old of a task; returns how many runs went."""
    kept = [rule for rule in rules() if rule.task_id == task.pk]
    held = unfinished_roots()
    return sum(count for rule in kept for count in remove_old(rule, held))


def is_there(run_id: int) -> bool:
    return TaskRun.objects.filter(pk=run_id).exists()


class TestRules:
    def days(self, task: Task) -> int | None:
        return {rule.task_id: rule.days for rule in rules()}.get(task.pk)

    def test_the_task_decides_then_its_project_then_the_setting(
        self, settings: Any
    ) -> None:
        settings.RETENTION_DAYS = 90
        task = make_task()
        assert self.days(task) == 90
        Project.objects.update(retention_days=30)
        assert self.days(task) == 30
        Task.objects.update(retention_days=7)
        assert self.days(task) == 7

    @pytest.mark.parametrize("who", [Task, Project])
    def test_nought_is_for_ever(self, who: type[Task] | type[Project]) -> None:
        task = make_task()
        who.objects.update(retention_days=0)
        assert self.days(task) is None

    def test_the_setting_may_be_for_ever_and_a_task_not(self, settings: Any) -> None:
        settings.RETENTION_DAYS = 0
        task, other = make_task(), make_task(retention_days=3)
        assert (self.days(task), self.days(other)) == (None, 3)

    def test_all_are_read_however_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tasks_app.ledger.retention.BATCH", 2)
        tasks = [make_task() for _ in range(5)]
        make_task(retention_days=0)
        assert [rule.task_id for rule in rules()] == [task.pk for task in tasks]

    def test_the_longest_retention_removes_nothing(self) -> None:
        task = make_task(retention_days=36_500)
        run_id = old_run(task, 400)
        assert remove(task) == 0
        assert is_there(run_id)


class TestRemoval:
    def test_old_runs_go_with_their_events_and_logs(self) -> None:
        task = make_task(retention_days=7)
        old, young = old_run(task, 10), old_run(task, 3)
        other = old_run(make_task(), 10)
        assert remove(task) == 1
        assert set(TaskRun.objects.values_list("pk", flat=True)) == {young, other}
        for model in (RunEvent, RunLog):
            runs = set(model.objects.values_list("run_id", flat=True))
            assert runs == {young, other}, old

    def test_unfinished_runs_stay(self) -> None:
        task = make_task(retention_days=7)
        queued, running = fire_days_ago(task, 10), fire_days_ago(task, 9)
        (claimed,) = ask()
        assert claimed.run_id in {queued, running}
        assert remove(task) == 0
        assert is_there(queued)
        assert is_there(running)

    def test_the_runs_above_an_unfinished_one_stay(self) -> None:
        parent = make_task(retention_days=7)
        child = make_task(parent, retention_days=7)
        make_task(child, retention_days=7)
        root = old_run(parent, 10)
        between = TaskRun.objects.get(task=child)
        end(between)  # and its own child waits
        for run in TaskRun.objects.exclude(pk=root):
            shift(TaskRun, run.pk, 10 * DAY, "created_at")
        assert remove(parent) == remove(child) == 0
        last = TaskRun.objects.unfinished().get()
        end(last)
        assert remove(parent) == remove(child) == 1

    def test_more_than_a_batch_goes_in_batches(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tasks_app.ledger.retention.BATCH", 2)
        task = make_task(retention_days=7)
        for days in range(20, 15, -1):
            old_run(task, days)
        stuck = fire_days_ago(task, 15)
        old_run(task, 14)
        (rule,) = [rule for rule in rules() if rule.task_id == task.pk]
        counts = list(remove_old(rule, unfinished_roots()))
        assert sum(counts) == 6
        assert max(counts) == 2
        assert list(TaskRun.objects.values_list("pk", flat=True)) == [stuck]

    def test_what_would_go_is_counted(self) -> None:
        task = make_task(retention_days=7)
        old_run(task, 10)
        fire_days_ago(task, 10)
        old_run(task, 3)
        (rule,) = [rule for rule in rules() if rule.task_id == task.pk]
        assert count_old(rule) == 1

    def test_roll_ups_stay(self) -> None:
        task = make_task(retention_days=7)
        old_run(task, 10)
        remove(task)
        assert RunTally.objects.get().runs == 1


class TestAccounts:
    def planned(self) -> Task:
        """Hourly fires of ten days, all of which have run; seven days are kept."""
        task = planned_task(10 * 24, retention_days=7)
        Task.objects.update(created_at=task.versions.get().created_at)
        now = database_now()
        for run in TaskRun.objects.all():
            end(run)
            age = (now - run.scheduled_for).total_seconds()
            shift(TaskRun, run.pk, age, "created_at")
        return Task.objects.get(pk=task.pk)

    def findings(self, task: Task) -> list[str]:
        found = Verifier().findings(task.pk)
        return [each.kind for each in found if each.kind in {"gap", "stray"}]

    def test_no_gap_is_seen_where_retention_removed_runs(self) -> None:
        task = self.planned()
        assert self.findings(task) == []
        assert remove(task) > 0
        assert self.findings(task) == []

    def test_a_gap_after_the_history_begins_is_still_seen(self) -> None:
        task = self.planned()
        remove(task)
        TaskRun.objects.filter(task=task).order_by("scheduled_for")[2].delete()
        assert self.findings(task) == ["gap"]

    def test_keeping_runs_longer_later_makes_no_gap(self) -> None:
        task = self.planned()
        remove(task)
        Task.objects.update(retention_days=365)
        assert self.findings(task) == []

    def test_an_explanation_of_a_removed_fire_says_so(self) -> None:
        task = self.planned()
        removed_at = TaskRun.objects.earliest("scheduled_for").scheduled_for
        kept_at = TaskRun.objects.latest("scheduled_for").scheduled_for
        remove(task)
        first = HistoryStart.objects.get(task=task).day
        summary = explain_fire(task, removed_at).summary
        assert summary == f"its run was removed: runs are kept from {first} on"
        assert "removed" not in explain_fire(task, kept_at).summary


@pytest.mark.skipif(not ON_POSTGRESQL, reason="SQLite has no partitions")
class TestMonths:
    @pytest.fixture
    def month(self, db: None) -> Partition:
        """The month of ten days that ended a hundred days ago."""
        end_day = today() - timedelta(days=100)
        return make_month(end_day - timedelta(days=10), end_day)

    def names(self) -> list[str]:
        return [partition.name for partition in due_months()]

    def test_a_month_goes_when_nobody_keeps_it(self, month: Partition) -> None:
        old = old_run(make_task(retention_days=99), 105)
        young = old_run(make_task(), 3)
        fetch("SET CONSTRAINTS ALL IMMEDIATE")
        assert month.name in self.names()
        assert drop_month(month)
        assert not is_there(old)
        assert is_there(young)

    @pytest.mark.parametrize("days", [0, 101])
    def test_a_run_that_is_kept_longer_keeps_its_month(
        self, month: Partition, days: int
    ) -> None:
        old_run(make_task(retention_days=99), 105)
        old_run(make_task(retention_days=days), 105)
        assert month.name not in self.names()

    def test_a_task_that_has_nothing_there_keeps_no_month(
        self, month: Partition
    ) -> None:
        old_run(make_task(retention_days=99), 105)
        old_run(make_task(retention_days=0), 3)
        assert month.name in self.names()

    def test_the_history_of_those_that_lost_it_begins_later(
        self, month: Partition
    ) -> None:
        task, other = make_task(retention_days=99), make_task(retention_days=0)
        drop_month(month)
        starts = dict(HistoryStart.objects.values_list("task", "day"))
        assert starts == {task.pk: month.end}
        assert other.pk not in starts

    def test_no_month_that_is_not_over_goes(self) -> None:
        make_task(retention_days=1)
        for partition in due_months():
            assert partition.end
            assert partition.end <= today() - timedelta(days=1)

    def batched(self) -> set[int]:
        return {rule.task_id for rule in rules_in_batches()}

    def test_tasks_wait_for_the_month_if_they_keep_about_as_long_as_others(
        self,
    ) -> None:
        make_task(retention_days=90)
        near, far = make_task(retention_days=60), make_task(retention_days=58)
        assert self.batched() == {far.pk}, near

    def test_no_task_waits_for_a_month_that_one_keeps_for_ever(self) -> None:
        task, other = make_task(retention_days=90), make_task(retention_days=0)
        assert self.batched() == {task.pk}, other

    def test_runs_in_the_default_partition_go_in_batches(self) -> None:
        for partition in partitions():
            if partition.end:
                drop(partition)
        task = make_task(retention_days=90)
        run_id = old_run(task, 100)
        assert self.batched() == {task.pk}
        assert remove(task) == 1
        assert not is_there(run_id)


def test_a_rule_says_from_which_day_on_runs_are_kept() -> None:
    task = make_task(retention_days=7)
    (rule,) = rules()
    assert rule == Rule(task.pk, task.name, 7, today() - timedelta(days=7))
    assert isinstance(rule.first_day, date)
    assert not isinstance(rule.first_day, datetime)
