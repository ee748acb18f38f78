"""Looking after the history of runs, beside the planning: what one beat does."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import structlog
from django.db import DatabaseError, connection

from tasks_app import ledger
from tasks_app.ledger import retention, tallies

log = structlog.get_logger()

FOLD_SECONDS = 60.0
MONTHS_SECONDS = 3600.0
RUNS_SECONDS = 24 * 3600.0
FOLDED_AT_START = timedelta(days=14)
"""The roll-ups that the first round looks through, should beats have been away."""


class HistoryKeeper:
    """Roll-ups are folded once a minute, months made ahead and dropped once an hour,
    single old runs removed once a day: on a thread, with a connection of its own, for
    fires must not wait for it. What fails is tried again the next time.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._fold_at = self._months_at = self._runs_at = 0.0
        self._is_first = True

    def tick(self) -> None:
        """Start a round if one is due, and none is going on."""
        if time.monotonic() < self._fold_at or (
            self._thread is not None and self._thread.is_alive()
        ):
            return
        self._fold_at = time.monotonic() + FOLD_SECONDS
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the round that goes on has ended."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._round()
        except DatabaseError as error:
            log.warning("history.round_failed", error=str(error).strip())
        finally:
            connection.close()

    def _round(self) -> None:
        now = time.monotonic()
        since = None
        if self._is_first:
            since = ledger.database_now() - FOLDED_AT_START
        tallies.fold(since)
        self._is_first = False
        if now >= self._months_at:
            self._months_at = now + MONTHS_SECONDS
            _keep_months()
        if now >= self._runs_at:
            self._runs_at = now + RUNS_SECONDS
            _remove_runs()


def _keep_months() -> None:
    ledger.create_ahead()
    for month in retention.due_months():
        if not retention.drop_month(month):
            log.warning("history.month_stays", month=month.name)


def _remove_runs() -> None:
    removals = retention.remove_all_old(retention.rules_in_batches())
    if removed := sum(count for _, count in removals):
        log.info("history.removed", runs=removed)
