"""`manage.py drain`: what it says, and how it ends."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tasks_app import ledger
from tasks_app.ledger import Finish
from tests.factories import claim, make_run, make_worker
from workers_app.draining import WorkerOffline, worker_drain
from workers_app.models import WorkerInfo
from workers_app.registration import worker_offline

pytestmark = pytest.mark.django_db


def drain(*arguments: str) -> list[str]:
    said = StringIO()
    call_command("drain", *arguments, stdout=said)
    return said.getvalue().splitlines()


def test_it_shows_what_is_left_until_nothing_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = make_worker("w-1")
    held = [claim(make_run(), worker) for _ in range(3)]

    def finish_one(_seconds: float) -> None:
        run = held.pop()
        ledger.finish([Finish(run.run_id, run.attempt, "succeeded")])

    monkeypatch.setattr("time.sleep", finish_one)
    assert drain("w-1", "--wait") == [
        "w-1 drains: 3 runs left",
        "w-1: 2 runs left",
        "w-1: 1 run left",
        "w-1: 0 runs left",
        "w-1 is at rest",
    ]


def test_without_wait_it_returns_at_once() -> None:
    worker = make_worker("w-1")
    claim(make_run(), worker)
    assert drain("w-1") == ["w-1 drains: 1 run left"]
    worker.refresh_from_db()
    assert worker.is_draining
    assert drain("w-1", "--undo") == ["w-1 claims again"]
    worker.refresh_from_db()
    assert not worker.is_draining


def test_a_timeout_is_an_error_and_leaves_it_draining() -> None:
    worker = make_worker("w-1")
    claim(make_run(), worker)
    with pytest.raises(CommandError, match="w-1 is not at rest: 1 run left"):
        drain("w-1", "--timeout", "0")
    worker.refresh_from_db()
    assert worker.is_draining


def test_it_ends_when_somebody_lets_the_worker_claim_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = make_worker("w-1")
    claim(make_run(), worker)

    def undo(_seconds: float) -> None:
        WorkerInfo.objects.update(is_draining=False)

    monkeypatch.setattr("time.sleep", undo)
    with pytest.raises(CommandError, match="claims again"):
        drain("w-1", "--wait")


def test_unknown_and_offline_workers_are_named() -> None:
    make_worker("w-1")
    with pytest.raises(CommandError, match=r"no worker 'w-2'\. Alive are: w-1"):
        drain("w-2")
    worker = make_worker("gone")
    worker_offline(worker.pk)
    with pytest.raises(CommandError, match="gone: The worker is offline"):
        drain("gone")
    with pytest.raises(WorkerOffline):
        worker_drain(worker=worker, actor="user:test", is_draining=True)


def test_a_worker_that_starts_anew_is_not_draining() -> None:
    worker = make_worker("w-1")
    worker_drain(worker=worker, actor="user:test", is_draining=True)
    assert not make_worker("w-1").is_draining
