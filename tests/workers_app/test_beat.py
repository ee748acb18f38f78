"""Beat: a tick costs what is due, not what exists."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from celery import current_app
from django.db import DatabaseError, connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from pytest_django import DjangoAssertNumQueries

from tasks_app import ledger
from tasks_app.models import TaskRun
from tests.factories import backdate, claim, make_run, make_task, shift
from workers_app import beat as module
from workers_app.beat import Clock, LedgerScheduler

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def beat(monkeypatch: pytest.MonkeyPatch) -> LedgerScheduler:
    """A scheduler that is asked for single ticks, and sends nothing."""
    monkeypatch.setattr(module, "ring", lambda: 0)
    return LedgerScheduler(app=current_app, lazy=True)


def test_a_tick_plans_what_is_due(beat: LedgerScheduler) -> None:
    task = backdate(make_task(interval_seconds=60), 61)
    beat.tick()
    assert TaskRun.objects.get(task=task).status == "queued"


def test_a_tick_sleeps_until_the_next_fire(beat: LedgerScheduler) -> None:
    beat.tick()
    assert beat.tick() == 1.0
    backdate(make_task(interval_seconds=60), 59.2)
    assert beat.tick() < 1.0


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
