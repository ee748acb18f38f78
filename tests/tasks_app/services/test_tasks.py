"""Tasks: defined, changed, paused, deleted, chained."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django_celery_beat.models import PeriodicTask

from tasks_app import ledger
from tasks_app.errors import InvalidInput, TaskDeleted, VersionMismatch
from tasks_app.models import Task, TaskRun
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import (
    ParentInput,
    task_create,
    task_delete,
    task_pause,
    task_resume,
    task_update,
)
from tests.factories import backdate, claim, make_run, make_task

pytestmark = pytest.mark.django_db


def problems(**values: Any) -> dict[str, str]:
    """The fields that are refused, as the API names them, with their codes."""
    with pytest.raises(InvalidInput) as caught:
        make_task(**values)
    return {".".join(error.path): error.code for error in caught.value.errors}


class TestCreate:
    def test_a_task_has_a_version_a_cursor_and_its_beat_row(self) -> None:
        task = make_task(cron="30 4 * * mon", timezone="Europe/Berlin")

        assert task.version == 1
        assert task.versions.get().definition["schedule"]["cron"] == "30 4 * * MON"
        assert task.next_fire_at
        assert task.next_fire_at > ledger.database_now()
        row = PeriodicTask.objects.get(gnomon_task=task)
        assert (row.crontab.minute, row.crontab.hour) == ("30", "4")
        assert str(row.crontab.timezone) == "Europe/Berlin"
        assert row.enabled

    @pytest.mark.parametrize(
        ("schedule", "kind"),
        [
            ({"cron": "@hourly"}, "crontab"),
            ({"interval_seconds": 90}, "interval"),
            ({"cron": "0 0 L * *"}, "crontab"),
            ({"cron": "0 0 * * 1#2"}, "crontab"),
        ],
    )
    def test_each_kind_of_schedule_comes_back_as_a_rule(
        self, schedule: dict[str, Any], kind: str
    ) -> None:
        task = Task.objects.get(pk=make_task(**schedule).pk)
        assert task.schedule
        assert getattr(task.schedule, kind)
        assert task.schedule_rule() is not None

    def test_an_interval_first_fires_one_interval_from_now(self) -> None:
        now = ledger.database_now()
        task = make_task(interval_seconds=600)
        assert task.next_fire_at
        assert timedelta(seconds=598) < task.next_fire_at - now < timedelta(seconds=602)

    def test_asking_for_attempts_says_that_repeating_is_safe(self) -> None:
        assert make_task(max_attempts=3).delivery == "at_least_once"
        assert make_task().delivery == "at_most_once"

    @pytest.mark.parametrize(
        ("values", "field", "code"),
        [
            ({"name": ""}, "name", "blank"),
            ({"name": "x" * 201}, "name", "max_length"),
            ({"executor": "ssh"}, "executor", "unknown_executor"),
            ({"payload": {"umask": 5}}, "payload.umask", "invalid_type"),
            ({"payload": {"nonsense": 1}}, "payload.nonsense", "unknown_field"),
            ({"cron": "61 * * * *"}, "schedule.cron", "out_of_range"),
            ({"cron": "@hourly", "timezone": "Mars"}, "timezone", "unknown_timezone"),
            ({"interval_seconds": 0}, "schedule.interval_seconds", "out_of_range"),
            (
                {"cron": "@hourly", "interval_seconds": 5},
                "schedule",
                "one_kind_of_schedule",
            ),
            (
                {"max_attempts": 2, "delivery": "at_most_once"},
                "retry.max_attempts",
                "retries_need_at_least_once",
            ),
            ({"timeout_seconds": 0}, "timeout_seconds", "min_value"),
            ({"misfire": "maybe"}, "schedule.misfire", "invalid_choice"),
        ],
    )
    def test_a_wrong_field_is_named_and_nothing_is_stored(
        self, values: dict[str, Any], field: str, code: str
    ) -> None:
        assert problems(**values) == {field: code}
        assert not Task.objects.exists()
        assert not PeriodicTask.objects.exists()

    def test_all_wrong_fields_are_named_at_once(self) -> None:
        assert set(problems(name="", executor="ssh", timeout_seconds=0)) == {
            "name",
            "executor",
            "timeout_seconds",
        }

    def test_a_name_is_used_once_in_a_project(self) -> None:
        task = make_task(name="backup")
        assert list(problems(name="backup")) == ["name"]
        task_delete(task_id=task.pk, actor="user:test")
        make_task(name="backup")


class TestUpdate:
    def test_a_changed_definition_is_a_new_version(self) -> None:
        task = task_update(task_id=make_task().pk, values={"command": "false"})
        commands = [v.definition["command"] for v in task.versions.order_by("number")]
        assert (task.version, commands) == (2, ["true", "false"])

    def test_a_changed_description_is_not(self) -> None:
        task = task_update(task_id=make_task().pk, values={"description": "why"})
        assert (task.version, task.versions.count()) == (1, 1)

    def test_a_changed_schedule_starts_anew_from_now(self) -> None:
        task = make_task(cron="0 0 1 1 *")
        changed = task_update(
            task_id=task.pk, values={}, schedule=ScheduleInput(interval_seconds=60)
        )
        assert changed.next_fire_at
        assert changed.next_fire_at < ledger.database_now() + timedelta(seconds=61)
        assert PeriodicTask.objects.count() == 1

    def test_another_change_leaves_the_cursor_alone(self) -> None:
        task = make_task(interval_seconds=3600)
        changed = task_update(task_id=task.pk, values={"timeout_seconds": 5})
        assert changed.next_fire_at == task.next_fire_at

    def test_a_fire_that_is_due_is_accounted_for_before_the_change(self) -> None:
        task = backdate(make_task(interval_seconds=60), 61)
        task_update(task_id=task.pk, values={"command": "false"})
        run = TaskRun.objects.get(task=task)
        assert run.version.definition["command"] == "true"

    def test_a_schedule_can_be_taken_away(self) -> None:
        task = make_task(interval_seconds=60)
        changed = task_update(task_id=task.pk, values={}, schedule=None)
        assert (changed.schedule, changed.next_fire_at) == (None, None)
        assert not PeriodicTask.objects.exists()

    def test_a_change_of_another_version_is_refused(self) -> None:
        task = make_task()
        with pytest.raises(VersionMismatch):
            task_update(task_id=task.pk, values={"command": "x"}, expected_version=7)

    def test_a_wrong_time_zone_is_named(self) -> None:
        task = make_task(cron="@hourly")
        with pytest.raises(InvalidInput) as caught:
            task_update(task_id=task.pk, values={"timezone": "Mars"})
        assert [error.path for error in caught.value.errors] == [("timezone",)]

    def test_a_refused_change_changes_nothing(self) -> None:
        task = make_task(interval_seconds=60)
        with pytest.raises(InvalidInput):
            task_update(task_id=task.pk, values={"command": "x", "timeout_seconds": 0})
        task.refresh_from_db()
        assert (task.command, task.version) == ("true", 1)


class TestPause:
    def test_a_resumed_task_fires_from_now_on(self) -> None:
        task = make_task(interval_seconds=60)
        task_pause(task_id=task.pk)
        backdate(task, 3600)
        resumed = task_resume(task_id=task.pk)
        assert resumed.status == "active"
        assert resumed.next_fire_at
        assert resumed.next_fire_at > ledger.database_now()
        assert not TaskRun.objects.exists()

    def test_the_beat_row_shows_the_pause(self) -> None:
        task = task_pause(task_id=make_task(interval_seconds=60).pk)
        assert not PeriodicTask.objects.get(gnomon_task=task).enabled
        task_resume(task_id=task.pk)
        assert PeriodicTask.objects.get(gnomon_task=task).enabled


class TestDelete:
    def test_history_stays_and_queued_runs_are_cancelled(self) -> None:
        task = make_task(interval_seconds=60)
        running, queued = make_run(task), make_run(task)
        claim(running)
        task_delete(task_id=task.pk, actor="user:test")
        queued.refresh_from_db()
        running.refresh_from_db()
        assert (queued.status, running.status) == ("cancelled", "running")
        assert not PeriodicTask.objects.exists()
        assert not Task.objects.existing().exists()

    def test_a_deleted_task_is_not_changed(self) -> None:
        task = make_task()
        task_delete(task_id=task.pk, actor="user:test")
        with pytest.raises(TaskDeleted):
            task_update(task_id=task.pk, values={"command": "x"})


class TestDependencies:
    def test_a_cycle_is_refused_with_its_path(self) -> None:
        first = make_task(name="extract")
        second = make_task(first, name="load")
        with pytest.raises(InvalidInput, match="load -> extract -> load"):
            task_update(task_id=first.pk, values={}, parents=[ParentInput(second.pk)])

    def test_an_unknown_parent_is_named(self) -> None:
        with pytest.raises(InvalidInput) as caught:
            task_create(
                values={"name": "x", "executor": "shell", "command": "true"},
                parents=[ParentInput(10**9)],
            )
        (error,) = caught.value.errors
        assert (error.path, error.code) == (("depends_on", "0", "task"), "unknown_task")
        assert not Task.objects.filter(name="x").exists()

    def test_dependencies_are_replaced_as_a_whole(self) -> None:
        one, two = make_task(), make_task()
        child = make_task(one)
        task_update(task_id=child.pk, values={}, parents=[ParentInput(two.pk, "done")])
        (edge,) = child.parent_edges.all()
        assert (edge.parent_id, edge.condition) == (two.pk, "done")
