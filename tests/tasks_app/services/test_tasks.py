"""Tasks: defined, changed, paused, deleted, chained."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from tasks_app import ledger
from tasks_app.errors import InvalidInput, TaskDeleted, VersionMismatch
from tasks_app.ledger.verifying import Verifier
from tasks_app.models import Alert, Calendar, Task, TaskRun, TaskVersion
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import (
    ParentInput,
    task_create,
    task_delete,
    task_pause,
    task_resume,
    task_resume_preview,
    task_update,
)
from tests.factories import backdate, claim, end, make_run, make_task, shift

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


def paused_for_hours(hours: int, **values: Any) -> Task:
    """An hourly task that was paused just before its last so many fires."""
    task = make_task(cron="0 * * * *", **values)
    task_pause(task_id=task.pk)
    backdate(task, hours * 3600)
    shift(TaskVersion, task.versions.get().pk, hours * 3600, "created_at")
    return task


class TestPause:
    def test_every_fire_of_a_pause_is_accounted_for(self) -> None:
        task = make_task(interval_seconds=60, misfire="latest")
        task_pause(task_id=task.pk)
        backdate(task, 600.5)

        resumed = task_resume(task_id=task.pk)

        runs = TaskRun.objects.filter(task=task).order_by("scheduled_for")
        statuses = [run.status for run in runs]
        assert statuses == ["skipped"] * 9 + ["queued"]
        assert resumed.outlook == ledger.PauseOutlook(
            10, 1, 9, resumed.task.next_fire_at
        )
        assert resumed.task.status == "active"
        assert resumed.task.next_fire_at
        assert resumed.task.next_fire_at > ledger.database_now()
        assert {run.reason for run in runs[:9]} == {
            "missed during a pause: the newest fire runs in its place (misfire policy"
            " latest)"
        }

    @pytest.mark.parametrize(
        ("misfire", "queued", "skipped"),
        [("latest", 1, 4), ("none", 0, 5), ("all", 5, 0)],
    )
    def test_a_fire_of_a_pause_is_missed_however_short_the_pause(
        self, misfire: str, queued: int, skipped: int
    ) -> None:
        """Five seconds: well within the grace of a fire that is merely late."""
        task = make_task(interval_seconds=1, misfire=misfire)
        task_pause(task_id=task.pk)
        backdate(task, 5.5)
        outlook = task_resume(task_id=task.pk).outlook
        assert (outlook.will_run, outlook.will_skip) in [
            (queued, skipped),
            (queued + (misfire == "all"), skipped + (misfire != "all")),  # a slow run
        ]

    def test_the_preview_says_what_the_resume_does(self) -> None:
        task = make_task(interval_seconds=3600, misfire="all")
        task_pause(task_id=task.pk)
        backdate(task, 5.5 * 3600)

        preview = task_resume_preview(task_id=task.pk)

        assert not TaskRun.objects.exists()
        assert Task.objects.get(pk=task.pk).status == "paused"
        assert preview == task_resume(task_id=task.pk).outlook
        assert preview.will_run == 5
        ledger.plan()
        assert TaskRun.objects.count() == 5

    def test_what_an_overlap_policy_skips_at_the_resume_is_told(self) -> None:
        task = make_task(interval_seconds=3600, misfire="all", overlap="skip")
        task_pause(task_id=task.pk)
        backdate(task, 3.5 * 3600)
        outlook = task_resume(task_id=task.pk).outlook
        assert (outlook.missed, outlook.will_run, outlook.will_skip) == (3, 1, 2)

    def test_resuming_an_active_task_changes_nothing(self) -> None:
        task = make_task(interval_seconds=60)
        preview = task_resume_preview(task_id=task.pk)
        resumed = task_resume(task_id=task.pk)
        assert resumed.task.next_fire_at == task.next_fire_at
        assert resumed.outlook == preview
        assert preview.missed == 0

    def test_a_resume_clears_the_reason_and_resolves_the_alert(self) -> None:
        task = make_task(pause_after_failures=1)
        end(make_run(task), "failed")
        paused = Task.objects.get(pk=task.pk)
        assert (paused.status, paused.status_reason) == (
            "paused",
            "its last 1 runs failed",
        )
        assert Alert.objects.open().filter(task=task).exists()

        resumed = task_resume(task_id=task.pk).task

        assert (resumed.status, resumed.status_reason) == ("active", "")
        assert not Alert.objects.open().filter(task=task).exists()

    def test_a_schedule_changed_in_a_pause_counts_from_the_change(self) -> None:
        task = paused_for_hours(4, misfire="all")

        task_update(
            task_id=task.pk, values={}, schedule=ScheduleInput(interval_seconds=60)
        )

        dropped = TaskRun.objects.filter(task=task)
        assert [run.status for run in dropped] == ["skipped"] * 4
        assert all("the schedule was changed" in run.reason for run in dropped)
        assert all(run.version.number == 1 for run in dropped)
        resumed = task_resume(task_id=task.pk)
        assert resumed.outlook.missed == 0
        assert list(Verifier().findings(task.pk)) == []

    def test_the_verifier_finds_nothing_wrong_with_a_pause(self) -> None:
        task = paused_for_hours(5)
        task_resume(task_id=task.pk)
        verifier = Verifier()
        assert list(verifier.findings(task.pk)) == []
        assert verifier.checked.fires == 5

    def test_the_beat_row_shows_the_pause(self) -> None:
        task = task_pause(task_id=make_task(interval_seconds=60).pk)
        assert not PeriodicTask.objects.get(gnomon_task=task).enabled
        task_resume(task_id=task.pk)
        assert PeriodicTask.objects.get(gnomon_task=task).enabled


class TestPolicies:
    @pytest.mark.parametrize(
        ("values", "overlap", "runs"),
        [
            ({}, "allow", None),
            ({"max_concurrency": 3}, "queue", 3),
            ({"overlap": "skip"}, "skip", 1),
            ({"overlap": "replace", "max_concurrency": 2}, "replace", 2),
        ],
    )
    def test_a_limit_implies_an_overlap_and_an_overlap_a_limit(
        self, values: dict[str, Any], overlap: str, runs: int | None
    ) -> None:
        task = make_task(**values)
        assert (task.overlap, task.max_concurrency) == (overlap, runs)

    def test_allowing_overlap_again_takes_the_limit_away(self) -> None:
        task = task_update(
            task_id=make_task(max_concurrency=3).pk, values={"overlap": "allow"}
        )
        assert task.max_concurrency is None

    def test_leaving_a_worker_forgets_its_name(self) -> None:
        task = make_task(placement="worker", worker_name="w")
        task = task_update(task_id=task.pk, values={"placement": "any"})
        assert task.worker_name == ""

    def test_a_match_is_kept_in_its_canonical_form(self) -> None:
        assert make_task(match="(gpu)  AND not (eu)").match == "gpu and not eu"

    def test_an_http_task_has_its_target(self) -> None:
        task = make_task(executor="http", command="https://Shop.example/health")
        assert task.target == "shop.example:443"
        changed = task_update(
            task_id=task.pk, values={"command": "http://other.example:81"}
        )
        assert changed.target == "other.example:81"
        changed = task_update(
            task_id=task.pk, values={"executor": "shell", "command": "true"}
        )
        assert changed.target == ""

    @pytest.mark.parametrize(
        ("values", "field", "code"),
        [
            (
                {"overlap": "allow", "max_concurrency": 2},
                "max_concurrency",
                "overlap_is_allow",
            ),
            (
                {"placement": "broadcast", "max_concurrency": 2},
                "max_concurrency",
                "not_with_broadcast",
            ),
            (
                {"placement": "broadcast", "overlap": "skip"},
                "max_concurrency",
                "not_with_broadcast",
            ),
            ({"placement": "worker"}, "worker_name", "required"),
            ({"worker_name": "w"}, "worker_name", "not_with_placement"),
            (
                {"placement": "worker", "worker_name": "w", "match": "gpu"},
                "match",
                "not_with_placement",
            ),
            ({"match": "gpu and"}, "match", "no_tag"),
            ({"priority": 10}, "priority", "max_value"),
            ({"jitter_seconds": 10**6}, "schedule.jitter_seconds", "max_value"),
            ({"rate_limit_runs": 0}, "rate_limit.runs", "min_value"),
        ],
    )
    def test_what_does_not_go_together_is_named(
        self, values: dict[str, Any], field: str, code: str
    ) -> None:
        assert problems(**values) == {field: code}

    def test_a_raised_limit_lets_runs_go_that_wait(self) -> None:
        task = make_task(max_concurrency=1)
        for _ in range(3):
            make_run(task)
        assert TaskRun.objects.filter(admission="admitted").count() == 1
        task_update(task_id=task.pk, values={"max_concurrency": 2})
        assert TaskRun.objects.filter(admission="admitted").count() == 2
        task_update(task_id=task.pk, values={"overlap": "allow"})
        assert not TaskRun.objects.filter(admission="held").exists()

    def test_a_limit_given_later_holds_runs_that_wait(self) -> None:
        task = make_task()
        for _ in range(3):
            make_run(task)
        task_update(task_id=task.pk, values={"max_concurrency": 1})
        assert TaskRun.objects.filter(admission="held").count() == 2

    def test_calendars_are_replaced_as_a_whole(self) -> None:
        one = Calendar.objects.create(name="one")
        two = Calendar.objects.create(name="two")
        task = make_task(calendars=[one])
        task_update(task_id=task.pk, values={"calendars": [two]})
        assert list(task.calendars.all()) == [two]
        task_update(task_id=task.pk, values={"command": "false"})
        assert list(task.calendars.all()) == [two]


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
        task_update(task_id=child.pk, values={}, parents=[ParentInput(two.pk)])
        (edge,) = child.parent_edges.all()
        assert edge.parent_id == two.pk


class TestRowsWritten:
    """An edit writes its own rows, and none that other edits write as well."""

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"description": "new"}, ["task"]),
            ({"command": "false"}, ["task", "taskversion"]),
            ({"name": "new"}, ["periodictask", "task"]),
        ],
    )
    def test_a_change(self, values: dict[str, Any], expected: list[str]) -> None:
        task = make_task(cron="0 3 * * *")
        with CaptureQueriesContext(connection) as captured:
            task_update(task_id=task.pk, values=values)
        assert _written(captured) == expected

    def test_a_new_schedule(self) -> None:
        task = make_task(cron="0 3 * * *")
        make_task(cron="0 4 * * *")
        with CaptureQueriesContext(connection) as captured:
            task_update(
                task_id=task.pk, values={}, schedule=ScheduleInput(cron="0 4 * * *")
            )
        assert _written(captured) == ["periodictask", "task", "taskversion"]

    def test_a_pause(self) -> None:
        task = make_task(cron="0 3 * * *")
        with CaptureQueriesContext(connection) as captured:
            task_pause(task_id=task.pk)
        assert _written(captured) == ["periodictask", "task"]

    def test_none_has_beat_read_the_stock_entries_anew(self) -> None:
        before = PeriodicTasks.last_change()
        task = make_task(cron="17 3 * * *")
        task_update(
            task_id=task.pk, values={}, schedule=ScheduleInput(interval_seconds=7)
        )
        task_pause(task_id=task.pk)
        task_delete(task_id=task.pk, actor="user:test")
        assert PeriodicTasks.last_change() == before


def _written(captured: CaptureQueriesContext) -> list[str]:
    """The tables that were written, a mention for each statement."""
    wrote = re.compile(
        r'(?:INSERT INTO|UPDATE|DELETE FROM) "?[a-z_]+_(?:app|beat)_(\w+)'
    )
    found = [wrote.match(row["sql"].strip()) for row in captured.captured_queries]
    return sorted(match[1] for match in found if match)
