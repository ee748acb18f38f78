"""Waiting for the database, at the start of a process."""

from __future__ import annotations

import time

import structlog
from django.db import InterfaceError, OperationalError, connection

log = structlog.get_logger()

AWAY = (OperationalError, InterfaceError)
"""What says that the database is away, and not that a statement is at fault."""
RETRY_SECONDS = 1.0


def wait_for_database() -> None:
    """Return once the database answers; a process that starts during an outage waits
    it out, instead of leaving that to whoever starts it again."""
    while True:
        try:
            connection.ensure_connection()
        except AWAY as error:
            log.warning("database.away", error=str(error).strip())
            time.sleep(RETRY_SECONDS)
        else:
            return
