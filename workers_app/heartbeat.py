"""The heartbeat: the worker lives, its leases hold, and what it is to stop."""

from __future__ import annotations

import threading
import time

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from tasks_app import ledger
from tasks_app.ledger import Beat
from workers_app.models import WorkerStatus
from workers_app.runner import Runner

log = structlog.get_logger()

GIVE_UP_LEASE_PART = 0.8
"""The part of a lease without a heartbeat after which repeatable jobs are stopped."""


class Heartbeat:
    """A thread of its own, so that a busy event loop does not cost a lease."""

    def __init__(self, worker_id: int, runner: Runner, max_tasks: int) -> None:
        self._worker_id = worker_id
        self._runner = runner
        self._max_tasks = max_tasks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the leases of what still runs will expire."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last_success = time.monotonic()
        while not self._stop.wait(settings.HEARTBEAT_SECONDS):
            begun = time.monotonic()
            try:
                self._beat()
                last_success = begun
            except (DatabaseError, InterfaceError) as error:
                log.warning("heartbeat.failed", error=str(error).strip())
                connection.close()
            silence = time.monotonic() - last_success
            if silence > GIVE_UP_LEASE_PART * settings.LEASE_SECONDS:
                self._runner.stop_repeatable("lease_lost")
        connection.close()

    def _beat(self) -> None:
        with self._runner.writer.turn:
            leases = self._runner.leases()
            busy = len(leases) >= self._max_tasks
            answer = ledger.heartbeat(
                Beat(
                    self._worker_id,
                    WorkerStatus.BUSY if busy else WorkerStatus.ONLINE,
                    len(leases),
                ),
                leases,
            )
        self._runner.stop_runs(answer.cancel, "cancelled")
        self._runner.stop_runs(answer.gone, "lease_lost")
