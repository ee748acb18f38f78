"""C4, C7: what happens when time runs out."""

from __future__ import annotations

import pytest

from tasks_app import ledger
from tasks_app.ledger import Lease
from tasks_app.models import RunEvent, TaskRun
from tests.factories import (
    ask,
    claim,
    heartbeat,
    make_run,
    make_task,
    make_worker,
    shift,
)

pytestmark = pytest.mark.django_db


def lose(run: TaskRun) -> TaskRun:
    """Let the lease of a claimed run expire."""
    claim(run)
    shift(TaskRun, run.pk, 60, "lease_expires_at")
    return run


class TestReap:
    def test_an_at_most_once_run_is_lost_and_never_started_again(self) -> None:
        run = lose(make_run())
        assert ledger.reap() == 1
        run.refresh_from_db()
        assert (run.status, run.reason) == ("lost", "lost_at_start")
        assert ask() == []

    def test_an_at_least_once_run_is_started_again(self) -> None:
        run = lose(make_run(make_task(max_attempts=2, retry_initial_seconds=0)))
        ledger.reap()
        run.refresh_from_db()
        assert run.status == "queued"
        assert claim(run).attempt == 2

    def test_attempts_run_out(self) -> None:
        run = make_run(make_task(max_attempts=2, retry_initial_seconds=0))
        for _ in range(2):
            lose(run)
            ledger.reap()
        run.refresh_from_db()
        assert run.status == "lost"

    def test_a_run_whose_cancel_was_asked_for_is_cancelled(self) -> None:
        run = make_run(make_task(max_attempts=2))
        claim(run)
        ledger.cancel([run.pk], "user:test")
        shift(TaskRun, run.pk, 60, "lease_expires_at")
        ledger.reap()
        run.refresh_from_db()
        assert run.status == "cancelled"

    def test_a_run_whose_worker_beats_is_left_alone(self) -> None:
        run, worker = make_run(), make_worker()
        claim(run, worker)
        shift(TaskRun, run.pk, 60, "lease_expires_at")
        heartbeat(worker, Lease(run.pk, 1))
        assert ledger.reap() == 0

    def test_the_reaper_is_named_in_the_record(self) -> None:
        run = lose(make_run())
        ledger.reap()
        event = RunEvent.objects.filter(run=run).latest("id")
        assert (event.kind, event.status, event.actor) == ("finished", "lost", "reaper")


class TestExpire:
    def test_a_run_that_did_not_start_in_time_expires(self) -> None:
        run = make_run(make_task(start_deadline_seconds=10))
        assert ledger.expire() == 0
        shift(TaskRun, run.pk, 11, "start_deadline_at")
        assert ledger.expire() == 1
        run.refresh_from_db()
        assert (run.status, run.reason) == ("expired", "start_deadline")

    def test_a_run_that_has_started_does_not_expire(self) -> None:
        run = make_run(make_task(start_deadline_seconds=10))
        claim(run)
        shift(TaskRun, run.pk, 11, "start_deadline_at")
        assert ledger.expire() == 0
