"""C9: cancel and completion race, and exactly one wins."""

from __future__ import annotations

import pytest

from tasks_app import ledger
from tasks_app.ledger import CancelAnswer, Doorbell, Finish
from tests.factories import claim, end, make_run, make_worker

pytestmark = pytest.mark.django_db


def test_a_queued_run_is_cancelled_at_once() -> None:
    run = make_run()
    assert ledger.cancel([run.pk], "user:ann") == {run.pk: CancelAnswer.CANCELLED}
    run.refresh_from_db()
    assert (run.status, run.reason) == ("cancelled", "cancelled")
    assert run.events.latest("id").actor == "user:ann"


def test_a_running_run_is_flagged_for_its_worker() -> None:
    run = make_run()
    claim(run)
    assert ledger.cancel([run.pk], "user:ann") == {run.pk: CancelAnswer.REQUESTED}
    run.refresh_from_db()
    assert run.status == "running"
    assert run.cancel_requested_at


@pytest.mark.django_db(transaction=True)
def test_the_worker_of_runs_that_are_to_stop_is_rung_for_once(
    rung: list[Doorbell],
) -> None:
    worker, runs = make_worker(), [make_run(), make_run()]
    for run in runs:
        claim(run, worker)
    rung.clear()
    ledger.cancel([run.pk for run in (*runs, make_run())], "user:ann")
    assert [bell for bell in rung if bell.worker_id] == [Doorbell("", "", worker.pk)]


def test_asking_twice_is_the_same_as_asking_once() -> None:
    run = make_run()
    claim(run)
    ledger.cancel([run.pk], "user:ann")
    run.refresh_from_db()
    asked_at = run.cancel_requested_at
    assert ledger.cancel([run.pk], "user:bob") == {run.pk: CancelAnswer.REQUESTED}
    run.refresh_from_db()
    assert run.cancel_requested_at == asked_at


def test_a_run_that_completed_first_keeps_its_outcome() -> None:
    run = end(make_run(), "succeeded")
    assert ledger.cancel([run.pk], "user:ann") == {}
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_completion_wins_over_a_cancel_that_the_worker_has_not_seen() -> None:
    run = make_run()
    claim(run)
    ledger.cancel([run.pk], "user:ann")
    assert ledger.finish([Finish(run.pk, 1, "succeeded")])
    run.refresh_from_db()
    assert run.status == "succeeded"
