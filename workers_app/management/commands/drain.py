"""`manage.py drain NAME`: a worker claims nothing new, and comes to rest."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from workers_app.draining import WorkerOffline, with_runs_held, worker_drain
from workers_app.models import WorkerInfo, WorkerStatus

LOOK_SECONDS = 0.5


class Command(BaseCommand):
    help = (
        "Have a worker claim nothing new. It finishes the runs that it has; --wait"
        " shows how many are left until none is, or it has gone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the worker's name")
        parser.add_argument("--undo", action="store_true", help="let it claim again")
        parser.add_argument(
            "--wait", action="store_true", help="until no run of it is left"
        )
        parser.add_argument(
            "--timeout",
            type=float,
            metavar="SECONDS",
            help="wait no longer than this; exits with 1 if runs are left",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        name = options["name"]
        worker = WorkerInfo.objects.filter(name=name).first()
        if worker is None:
            known = ", ".join(WorkerInfo.objects.alive().values_list("name", flat=True))
            raise CommandError(
                f"There is no worker {name!r}. Alive are: {known or '-'}"
            )
        try:
            worker_drain(worker=worker, actor="cli", is_draining=not options["undo"])
        except WorkerOffline as error:
            raise CommandError(f"{name}: {error}") from error
        if options["undo"]:
            self.stdout.write(f"{name} claims again")
            return
        self.stdout.write(f"{name} drains: {_left(worker)}")
        if options["wait"] or options["timeout"] is not None:
            self._wait(worker, options["timeout"])

    def _wait(self, worker: WorkerInfo, seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        told = _left(worker)
        while not _is_at_rest(worker):
            if deadline is not None and time.monotonic() >= deadline:
                raise CommandError(f"{worker.name} is not at rest: {_left(worker)}")
            time.sleep(LOOK_SECONDS)
            if (left := _left(worker)) != told:
                told = left
                self.stdout.write(f"{worker.name}: {left}")
        self.stdout.write(f"{worker.name} is at rest")


def _runs_held(worker: WorkerInfo) -> int:
    (found,) = with_runs_held([worker])
    return found.runs_held


def _left(worker: WorkerInfo) -> str:
    runs = _runs_held(worker)
    return f"{runs} run left" if runs == 1 else f"{runs} runs left"


def _is_at_rest(worker: WorkerInfo) -> bool:
    """No run left, also where it has gone with runs: those are the reaper's.

    Raises:
        CommandError: it claims again, started anew or let by somebody.
    """
    worker.refresh_from_db()
    if worker.status != WorkerStatus.OFFLINE and not worker.is_draining:
        raise CommandError(f"{worker.name} claims again: somebody else wants it to")
    return not _runs_held(worker)
