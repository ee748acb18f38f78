"""Backfill: each nominal time of the past that did not run, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from tasks_app import ledger
from tasks_app.errors import InvalidInput, NoSchedule, TaskDeleted, TooManyQueuedRuns
from tasks_app.models import Calendar, Task, TaskRun
from tasks_app.services.backfill import (
    Backfill,
    BackfillInput,
    backfill_create,
    backfill_preview,
)
from tasks_app.services.tasks import task_delete, task_pause
from tests.factories import ask, backdate, end, make_task

HOUR = timedelta(hours=1)


def hourly(**values: Any) -> Task:
    return make_task(**{"cron": "0 * * * *", **values})


def midnight() -> datetime:
    """Today's, or yesterday's if it has only just been."""
    now = ledger.database_now() - HOUR
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def given(start: float, end: float, **values: Any) -> BackfillInput:
    """So many hours before midnight."""
    return BackfillInput(midnight() - start * HOUR, midnight() - end * HOUR, **values)


def backfill(task: Task, *hours: float, **values: Any) -> Backfill:
    return backfill_create(
        task_id=task.pk, given=given(*hours, **values), actor="user:test"
    )


def refusal(task: Task, wanted: BackfillInput) -> tuple[str, str, str]:
    with pytest.raises(InvalidInput) as caught:
        backfill_preview(task_id=task.pk, given=wanted)
    (error,) = caught.value.errors
    return ".".join(error.path), error.code, error.message


@pytest.mark.django_db
class TestBackfill:
    def test_each_nominal_time_of_the_span_gets_a_run(self) -> None:
        task = hourly()
        made = backfill(task, 5, 2)
        runs = TaskRun.objects.filter(pk__in=made.run_ids).order_by("pk")
        hours = [midnight() - n * HOUR for n in (5, 4, 3)]  # its end is not in it
        assert [run.scheduled_for for run in runs] == hours == made.fires
        assert {(run.trigger, run.status, run.triggered_by) for run in runs} == {
            ("backfill", "queued", "user:test")
        }

    def test_the_newest_may_go_first(self) -> None:
        made = backfill(hourly(), 3, 0, is_newest_first=True)
        assert made.fires == sorted(made.fires, reverse=True)
        assert [run.scheduled_for for run in ask(3)] == made.fires

    def test_a_preview_makes_nothing(self) -> None:
        task = hourly()
        found = backfill_preview(task_id=task.pk, given=given(5, 2))
        assert (len(found.fires), found.run_ids) == (3, [])
        assert not TaskRun.objects.exists()

    def test_a_fire_is_made_up_for_once(self) -> None:
        task = hourly()
        backfill(task, 5, 2)
        again = backfill(task, 6, 2)
        assert (again.fires, again.already_run) == ([midnight() - 6 * HOUR], 3)

    @pytest.mark.parametrize(
        ("status", "is_made_up_for"),
        [
            ("skipped", True),
            ("expired", True),
            ("queued", False),
            ("failed", False),
            ("cancelled", False),
        ],
    )
    def test_skipped_and_expired_fires_did_not_run(
        self, status: str, is_made_up_for: object
    ) -> None:
        task = hourly()
        ledger.create(
            [
                ledger.NewRun(
                    task_id=task.pk,
                    version_id=task.versions.get().pk,
                    trigger="schedule",
                    queue="default",
                    status="skipped" if status == "skipped" else "queued",
                    scheduled_for=midnight() - HOUR,
                )
            ]
        )
        run = TaskRun.objects.get()
        if status == "failed":
            end(run, "failed")
        elif status == "cancelled":
            ledger.cancel([run.pk], "user:test")
        elif status == "expired":
            past = midnight() - HOUR
            TaskRun.objects.filter(pk=run.pk).update(start_deadline_at=past)
            ledger.expire()
        run.refresh_from_db()
        assert run.status == status
        found = backfill_preview(task_id=task.pk, given=given(1, 0))
        assert bool(found.fires) is is_made_up_for

    def test_blackouts_are_left_out_unless_they_are_wanted(self) -> None:
        window = {"cron": "0 23 * * *", "duration_seconds": 60}
        night = Calendar.objects.create(name="night", windows=[window])
        task = hourly(calendars=[night])
        found = backfill_preview(task_id=task.pk, given=given(3, 0))
        assert (len(found.fires), found.in_blackout) == (2, 1)
        found = backfill_preview(
            task_id=task.pk, given=given(3, 0, with_blackouts=True)
        )
        assert (len(found.fires), found.in_blackout) == (3, 0)

    def test_runs_of_a_task_that_skips_overlaps_wait_for_each_other(self) -> None:
        made = backfill(hourly(overlap="skip"), 3, 0)
        runs = TaskRun.objects.filter(pk__in=made.run_ids).order_by("pk")
        assert [run.status for run in runs] == ["queued"] * 3
        assert [run.admission for run in runs] == ["admitted", "held", "held"]

    def test_more_than_the_cap_is_refused_with_the_count_and_what_to_do(
        self, settings: Any
    ) -> None:
        settings.BACKFILL_CAP = 3
        task = hourly()
        field, code, message = refusal(task, given(10, 0))
        assert (field, code) == ("to", "too_many_fires")
        assert "the window has 10 fires, and a backfill at most 3" in message
        end = (midnight() - 7 * HOUR).isoformat().replace("+00:00", "Z")
        assert f"end it at {end}" in message
        assert len(backfill(task, 10, 7).fires) == 3

    def test_the_future_is_the_schedules(self) -> None:
        now = ledger.database_now()
        assert refusal(hourly(), BackfillInput(now - HOUR, now + HOUR))[:2] == (
            "to",
            "in_the_future",
        )

    def test_a_span_begins_before_it_ends(self) -> None:
        assert refusal(hourly(), given(1, 1))[:2] == ("to", "end_before_start")

    def test_fires_that_a_resume_decides_about_are_not_made_up_for(self) -> None:
        task = backdate(make_task(interval_seconds=3600), 3600)
        Task.objects.filter(pk=task.pk).update(status="paused")
        now = ledger.database_now()
        field, code, message = refusal(task, BackfillInput(now - 2 * HOUR, now))
        assert (field, code) == ("to", "paused")
        assert "resume it first" in message

    def test_a_paused_task_can_be_backfilled_up_to_its_pause(self) -> None:
        task = hourly()
        task_pause(task_id=task.pk)
        assert len(backfill(task, 3, 0).fires) == 3

    def test_more_than_may_wait_is_refused_as_a_whole(self) -> None:
        task = hourly(max_queued=2)
        with pytest.raises(TooManyQueuedRuns, match="3 runs, 1 more than may wait"):
            backfill(task, 3, 0)
        assert not TaskRun.objects.exists()

    def test_a_task_without_a_schedule_has_nothing_to_make_up_for(self) -> None:
        with pytest.raises(NoSchedule):
            backfill(make_task(), 3, 0)

    def test_a_deleted_task_is_not_backfilled(self) -> None:
        task = hourly()
        task_delete(task_id=task.pk, actor="user:test")
        with pytest.raises(TaskDeleted):
            backfill_preview(task_id=task.pk, given=given(3, 0))
        with pytest.raises(TaskDeleted):
            backfill(task, 3, 0)


@pytest.mark.usefixtures("committed")
def test_backfills_at_the_same_time_do_not_double_a_fire() -> None:
    task = hourly()

    def make(_: int) -> int:
        try:
            return len(backfill(task, 20, 0).fires)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make, range(4)))

    assert sorted(made) == [0, 0, 0, 20]
    assert TaskRun.objects.count() == 20
