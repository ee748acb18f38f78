"""The heartbeat: the worker lives, its leases hold, and what it is to stop."""

from __future__ import annotations

import random
import threading

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from executors.supervisor import clock
from tasks_app import ledger
from tasks_app.ledger import Beat
from workers_app.models import WorkerStatus
from workers_app.runner import Runner

log = structlog.get_logger()

EARLY_PART = 0.1
"""A beat comes earlier by up to this part of HEARTBEAT_SECONDS, drawn each time: what
makes a fleet beat in step, as an outage does, wears off."""
COMPANY_SECONDS = 0.1
"""How long a beat that was asked for waits for others who ask: many cancels come at
once, and a beat with all leases costs the same for one as for a thousand."""


class Heartbeat:
    """A thread of its own, so that a busy event loop does not cost a lease."""

    def __init__(self, worker_id: int, runner: Runner, max_tasks: int) -> None:
        self._worker_id = worker_id
        self._runner = runner
        self._max_tasks = max_tasks
        self._is_draining = False
        self._runs_left: int | None = None
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the leases of what still runs will expire."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def soon(self) -> None:
        """Beat now, for there is something to learn. From any thread."""
        self._wake.set()

    def _run(self) -> None:
        # The first comes soon, and at a moment of its own: a fleet that starts together
        # does not beat together.
        pause_part = random.random()  # noqa: S311 - no secret
        while not self._is_over(pause_part * settings.HEARTBEAT_SECONDS):
            pause_part = 1 - random.uniform(0, EARLY_PART)  # noqa: S311 - as above
            try:
                self._beat()
            except (DatabaseError, InterfaceError) as error:
                log.warning("heartbeat.failed", error=str(error).strip())
                connection.close()
        connection.close()

    def _is_over(self, pause_seconds: float) -> bool:
        """Whether to stop, once the time for a beat has come."""
        if self._wake.wait(pause_seconds):
            self._stop.wait(COMPANY_SECONDS)
            self._wake.clear()
        return self._stop.is_set()

    def _beat(self) -> None:
        begun = clock()
        with self._runner.writer.turn:
            leases = self._runner.leases()
            # Beside those in its slots it holds some whose ends are being committed.
            current_tasks = min(len(leases), self._max_tasks)
            busy = current_tasks == self._max_tasks
            answer = ledger.heartbeat(
                Beat(
                    self._worker_id,
                    WorkerStatus.BUSY if busy else WorkerStatus.ONLINE,
                    current_tasks,
                ),
                leases,
            )
        held = [lease for lease in leases if lease.run_id not in answer.gone]
        self._runner.renewed(held, begun)
        self._runner.stop_runs(answer.cancel, "cancelled")
        self._runner.stop_runs(answer.gone, "lease_lost")
        self._note_draining(len(leases), is_draining=answer.is_draining)

    def _note_draining(self, runs: int, *, is_draining: bool) -> None:
        if is_draining != self._is_draining:
            self._is_draining = is_draining
            self._runner.rest(is_draining=is_draining)
            event = "worker.told_to_drain" if is_draining else "worker.claims_again"
            log.info(event, runs=runs)
        if is_draining and runs != self._runs_left:
            log.info("worker.drained" if not runs else "worker.drains", runs=runs)
        self._runs_left = runs if is_draining else None
