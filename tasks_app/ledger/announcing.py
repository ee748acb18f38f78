"""Telling that queued runs may be claimed, and running ones are to stop."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from tasks_app.ledger.records import Doorbell
from tasks_app.signals import runs_ready


def announce(doorbells: Sequence[Doorbell]) -> None:
    """Tell, once the transaction has committed, that these runs may start, or are to
    stop."""
    if doorbells:
        transaction.on_commit(
            lambda: runs_ready.send_robust(sender=None, doorbells=doorbells)
        )
