"""Beat: a tick costs what is due, not what exists."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from celery import current_app
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import (
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
)
from pytest_django import DjangoAssertNumQueries

from tasks_app import ledger
from tasks_app.models import Alert, TaskRun
from tests.factories import backdate, claim, make_run, make_task, make_worker, shift
from workers_app.beat import Clock, LedgerScheduler
from workers_app.models import WorkerInfo

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def beat() -> Iterator[LedgerScheduler]:
    """A scheduler that is asked for single ticks."""
    scheduler = LedgerScheduler(app=current_app, lazy=True)
    yield scheduler
    scheduler._history.wait()


def test_a_tick_plans_what_is_due(beat: LedgerScheduler) -> None:
    task = backdate(make_task(interval_seconds=60), 61)
    beat.tick()
    assert TaskRun.objects.get(task=task).status == "queued"


def test_a_tick_sleeps_until_the_next_fire(beat: LedgerScheduler) -> None:
    beat.tick()
    assert 0 < beat.tick() <= 1.0
    task = backdate(make_task(interval_seconds=60), 59.2)
    is_short = beat.tick() < 1.0
    assert is_short or task.runs.exists()  # on a busy machine it has come meanwhile


def test_a_tick_costs_the_same_however_many_tasks_exist(
    beat: LedgerScheduler, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(30):
        make_task(interval_seconds=3600)
    beat.tick()
    with django_assert_max_num_queries(15):
        beat.tick()


def test_upkeep_reaps_and_expires(beat: LedgerScheduler) -> None:
    lost = make_run()
    claim(lost)
    shift(TaskRun, lost.pk, 60, "lease_expires_at")
    late = make_run(make_task(start_deadline_seconds=5))
    shift(TaskRun, late.pk, 6, "start_deadline_at")
    beat.tick()
    lost.refresh_from_db()
    late.refresh_from_db()
    assert (lost.status, late.status) == ("lost", "expired")


def test_upkeep_tells_what_no_worker_can_take(beat: LedgerScheduler) -> None:
    run = make_run(make_task(queue="nobody"))
    shift(TaskRun, run.pk, 60, "due_at")
    beat.tick()
    assert Alert.objects.open().get().subject == "queue:nobody"


def test_upkeep_expires_what_was_for_a_worker_that_left(beat: LedgerScheduler) -> None:
    worker = make_worker()
    run = make_run(make_task(placement="broadcast"))
    shift(WorkerInfo, worker.pk, 60, "last_heartbeat")
    beat.tick()  # marks it offline
    beat._upkeep_at = 0.0
    beat.tick()
    run.refresh_from_db()
    assert (run.status, run.reason) == ("expired", "worker_offline")


class TestClock:
    @pytest.fixture
    def lost(self) -> TaskRun:
        run = make_run()
        claim(run)
        shift(TaskRun, run.pk, 60, "lease_expires_at")
        return run

    def test_a_jump_of_the_databases_clock_kills_no_running_run(
        self, lost: TaskRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock()
        assert clock.is_trusted()
        ahead = ledger.database_now() + timedelta(hours=1)
        monkeypatch.setattr(ledger, "database_now", lambda: ahead)
        assert not clock.is_trusted()
        assert not clock.is_trusted()

    def test_after_an_outage_living_workers_renew_first(
        self, lost: TaskRun, beat: LedgerScheduler
    ) -> None:
        beat._clock.distrust()
        beat.tick()
        lost.refresh_from_db()
        assert lost.status == "running"

    def test_the_clock_is_trusted_again_after_two_leases(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock()
        clock.distrust()
        later = time.monotonic() + 61
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert clock.is_trusted()


def test_rows_of_tasks_are_not_sent_the_stock_way(beat: LedgerScheduler) -> None:
    make_task(interval_seconds=60)
    make_task(cron="0 0 L * *")  # which celery's own crontab could not even read
    every = IntervalSchedule.objects.create(every=60, period="seconds")
    PeriodicTask.objects.create(name="others", task="others.task", interval=every)
    assert [row.name for row in beat.enabled_models_qs()] == ["others"]


def test_one_schedule_that_nobody_can_read_stops_no_other(
    beat: LedgerScheduler,
) -> None:
    broken = backdate(make_task(cron="* * * * *"), 61)
    other = backdate(make_task(cron="* * * * *"), 61)
    CrontabSchedule.objects.filter(periodictask=broken.schedule).update(minute="x")
    fine = CrontabSchedule.objects.create(minute="*")
    PeriodicTask.objects.filter(pk=other.schedule_id).update(crontab=fine)
    beat.tick()
    assert set(TaskRun.objects.values_list("task_id", flat=True)) == {other.pk}


def test_the_question_for_stock_entries_names_no_schedule_of_a_task(
    beat: LedgerScheduler,
) -> None:
    for minute in range(20):
        make_task(cron=f"{minute} 3 * * *")
    with CaptureQueriesContext(connection) as captured:
        assert beat.all_as_schedule() == {}
    (asked,) = captured.captured_queries
    assert "crontabschedule" not in asked["sql"]


def test_a_stock_entry_is_read_once_it_is_there(beat: LedgerScheduler) -> None:
    PeriodicTasks.objects.all().delete()  # nothing was ever changed
    beat.setup_schedule()
    beat.tick()
    every = IntervalSchedule.objects.create(every=3600, period="seconds")
    PeriodicTask.objects.create(name="others", task="others.task", interval=every)
    beat._stock_at = 0.0  # a second later
    beat.tick()
    assert set(beat._schedule) == {"others"}


def test_a_beat_that_does_not_lead_asks_once_a_second(beat: LedgerScheduler) -> None:
    LedgerScheduler(app=current_app, lazy=True).tick()
    beat.tick()
    with CaptureQueriesContext(connection) as captured:
        beat.tick()
    assert not [row for row in captured.captured_queries if "leader" in row["sql"]]


def test_a_tick_outlives_a_database_that_is_away(
    beat: LedgerScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise DatabaseError("away")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "plan", away)
        patch.setattr(connection, "close", lambda: None)
        assert beat.tick() == 1.0
    backdate(make_task(interval_seconds=60), 61)
    beat.tick()
    assert TaskRun.objects.exists()
