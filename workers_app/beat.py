"""Beat: turns due schedules into runs, rings for them, and keeps the ledger in order.

Any number of copies may run. What each does is safe beside the others, but for the
stock django-celery-beat entries, which one elected copy sends.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django_celery_beat.schedulers import DatabaseScheduler

from tasks_app import ledger
from tasks_app.services.idempotency import keys_forget
from workers_app.dispatch import ring
from workers_app.leadership import lead
from workers_app.registration import workers_mark_silent

log = structlog.get_logger()

MAX_TICK_SECONDS = 1.0
"""How long a tick may sleep: another process may have made something due sooner."""
MAX_DRIFT_SECONDS = 1.0
STOCK_ENTRIES = "stock-entries"


class Clock:
    """Whether leases may be judged by the database's clock (C13).

    Not for two leases after that clock has jumped against the monotonic one, or the
    database was away: living workers must have the time to renew theirs first.
    """

    def __init__(self) -> None:
        self._read: tuple[datetime, float] | None = None
        self._trusted_from = 0.0

    def distrust(self) -> None:
        self._read = None
        self._trusted_from = time.monotonic() + 2 * settings.LEASE_SECONDS

    def is_trusted(self) -> bool:
        now, tick = ledger.database_now(), time.monotonic()
        if self._read is not None:
            before, tick_before = self._read
            drift = (now - before).total_seconds() - (tick - tick_before)
            if abs(drift) > MAX_DRIFT_SECONDS:
                log.warning("beat.clock_jumped", seconds=round(drift, 1))
                self.distrust()
        self._read = now, tick
        return tick >= self._trusted_from


class LedgerScheduler(DatabaseScheduler):  # type: ignore[misc]  # is untyped
    """Plans by the ledger's cursors: a tick costs what is due, not what exists."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._upkeep_at = 0.0
        self._lead_until = 0.0
        self._clock = Clock()
        super().__init__(*args, **kwargs)
        self.max_interval = MAX_TICK_SECONDS

    def enabled_models_qs(self) -> Any:
        """Only the rows that belong to no Task: those are planned by the ledger."""
        return super().enabled_models_qs().filter(gnomon_task__isnull=True)

    def install_default_entries(self, data: Any) -> None:
        """None: there is no result backend to clean."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Do what is due; returns the seconds to sleep."""
        try:
            return self._tick(*args, **kwargs)
        except (DatabaseError, InterfaceError) as error:
            log.warning("beat.database_away", error=str(error).strip())
            connection.close()
            self._clock.distrust()
            return MAX_TICK_SECONDS

    def _tick(self, *args: Any, **kwargs: Any) -> float:
        planned = ledger.plan()
        if planned.run_ids:
            log.debug("beat.planned", tasks=planned.tasks, runs=len(planned.run_ids))
        rung = ring()
        self._upkeep()
        sleep = MAX_TICK_SECONDS
        if self._is_leader():
            sleep = min(sleep, super().tick(*args, **kwargs))
        if not planned.is_complete or rung:
            return 0.0
        return min(sleep, _seconds_until_due())

    def _upkeep(self) -> None:
        """Every UPKEEP_SECONDS: what time alone decides."""
        if time.monotonic() < self._upkeep_at:
            return
        self._upkeep_at = time.monotonic() + settings.UPKEEP_SECONDS
        if self._clock.is_trusted() and (reaped := ledger.reap()):
            log.warning("beat.reaped", runs=reaped)
        if expired := ledger.expire():
            log.info("beat.expired", runs=expired)
        for name in workers_mark_silent():
            log.warning("worker.silent", worker=name)
        keys_forget()

    def _is_leader(self) -> bool:
        """Whether this copy sends the stock entries: asked again at half its lease."""
        if time.monotonic() < self._lead_until - settings.LEASE_SECONDS / 2:
            return True
        asked = time.monotonic()
        is_leader = lead(STOCK_ENTRIES, self._holder)
        self._lead_until = asked + settings.LEASE_SECONDS if is_leader else 0.0
        return is_leader


def _seconds_until_due() -> float:
    times = [ledger.next_fire_at(), ledger.next_publish_at()]
    due = [at for at in times if at is not None]
    if not due:
        return MAX_TICK_SECONDS
    wait = (min(due) - ledger.database_now()).total_seconds()
    return min(max(wait, 0.0), MAX_TICK_SECONDS)
