"""The one Celery task of the platform."""

from __future__ import annotations

from celery import shared_task

HEARTBEAT = "gnomon_heartbeat"
"""The remote control command that has a worker look at its runs now."""
DOOR = "gnomon.worker."
"""How the names of the broker's queues begin that one worker alone reads."""


@shared_task(name="gnomon.doorbell", ignore_result=True)
def doorbell(runs: int = 0) -> None:
    """Wake a worker: about so many runs wait in the queue that the message came by.
    `workers_app.pool` answers it without calling this body, which does nothing in any
    other pool."""
