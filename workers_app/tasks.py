"""The one Celery task of the platform."""

from __future__ import annotations

from celery import shared_task


@shared_task(name="gnomon.doorbell", ignore_result=True)
def doorbell(run_ids: list[int]) -> None:
    """Wake a worker for these runs. `workers_app.pool` answers it without calling
    this body, which does nothing in any other pool."""
