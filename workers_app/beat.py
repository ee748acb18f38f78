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
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from django_celery_beat.schedulers import DatabaseScheduler

from tasks_app import ledger
from tasks_app.services.idempotency import keys_forget
from workers_app.database import AWAY, wait_for_database
from workers_app.history import HistoryKeeper
from workers_app.leadership import lead
from workers_app.registration import workers_mark_silent

log = structlog.get_logger()

MAX_TICK_SECONDS = 1.0
"""How long a tick may sleep: another process may have made something due sooner."""
REST_SECONDS = 0.03
"""After fires were planned: those that come due meanwhile share the next tick's cost,
which is nearly the same for one as for ten. A fire that comes alone waits for none."""
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
        self._admit_at = 0.0
        self._upkeep_at = 0.0
        self._history = HistoryKeeper()
        self._ask_at = 0.0
        self._leads = False
        self._stock_at = 0.0
        self._clock = Clock()
        super().__init__(*args, **kwargs)
        self.max_interval = MAX_TICK_SECONDS

    def enabled_models_qs(self) -> Any:
        """Only the rows that belong to no Task: those are planned by the ledger.

        Not the parent's, which leaves out what is not due within hours: it names each
        crontab row of the database in its statement (1.3 s and 24 MB with 1,440).
        """
        return self.Model.objects.enabled().filter(gnomon_task__isnull=True)

    def setup_schedule(self) -> None:
        wait_for_database()
        # Against this time beat sees that a stock entry has changed; without the row
        # it would not see the first change ever.
        defaults = {"last_update": timezone.now()}
        self.Changes.objects.get_or_create(ident=1, defaults=defaults)
        super().setup_schedule()

    def install_default_entries(self, data: Any) -> None:
        """None: there is no result backend to clean."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Do what is due; returns the seconds to sleep."""
        try:
            return self._tick(*args, **kwargs)
        except AWAY as error:
            log.warning("beat.database_away", error=str(error).strip())
            connection.close()
            self._clock.distrust()
        except DatabaseError:  # a statement is at fault: the next tick may do better
            log.exception("beat.tick_failed")
        return MAX_TICK_SECONDS

    def _tick(self, *args: Any, **kwargs: Any) -> float:
        planned = ledger.plan()
        if planned.run_ids:
            log.debug("beat.planned", tasks=planned.tasks, runs=len(planned.run_ids))
        self._admit()
        self._upkeep()
        if self._is_leader():
            self._history.tick()
            if time.monotonic() >= self._stock_at:
                self._stock_at = time.monotonic() + super().tick(*args, **kwargs)
        if not planned.is_complete:
            return 0.0
        return REST_SECONDS if planned.run_ids else self._seconds_until_due()

    def _seconds_until_due(self) -> float:
        """Until a task of the ledger is due, or a stock entry."""
        seconds = ledger.seconds_until_due()
        if seconds is None:
            seconds = MAX_TICK_SECONDS
        if self._leads:
            seconds = min(seconds, self._stock_at - time.monotonic())
        return min(max(seconds, 0.0), MAX_TICK_SECONDS)

    def _admit(self) -> None:
        """Once a second at the most: rooms that time alone has made."""
        if time.monotonic() >= self._admit_at:
            self._admit_at = time.monotonic() + MAX_TICK_SECONDS
            with transaction.atomic():
                ledger.admit_waiting()
            ledger.probe()

    def _upkeep(self) -> None:
        """Every UPKEEP_SECONDS: what time alone decides."""
        if time.monotonic() < self._upkeep_at:
            return
        self._upkeep_at = time.monotonic() + settings.UPKEEP_SECONDS
        if self._clock.is_trusted():
            if reaped := ledger.reap():
                log.warning("beat.reaped", runs=reaped)
            ledger.expire_shards()
        if expired := ledger.expire():
            log.info("beat.expired", runs=expired)
        for name in workers_mark_silent():
            log.warning("worker.silent", worker=name)
        ledger.alert_unplaced()
        ledger.forget_starts()
        keys_forget()

    def _is_leader(self) -> bool:
        """Whether this copy sends the stock entries: asked again at half its lease,
        by the others at the longest tick."""
        asked = time.monotonic()
        if asked >= self._ask_at:
            self._leads = lead(STOCK_ENTRIES, self._holder)
            patience = settings.LEASE_SECONDS / 2 if self._leads else MAX_TICK_SECONDS
            self._ask_at = asked + patience
        return self._leads
