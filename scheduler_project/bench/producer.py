"""`python -m scheduler_project.bench.producer VERSION RATE SECONDS`: steady arrivals.

Creates runs by the ledger and rings for them, as every process of the product does. It
goes by its clock alone, however late the platform is.
"""

from __future__ import annotations

import sys
import time

import django

BATCH_SECONDS = 0.01
"""What falls due within it is created together."""
RINGING_SECONDS = 1.0
"""For the last doorbells: they are rung in the background."""


def produce(version_id: int, rate: float, seconds: float) -> None:
    """Create `rate` runs a second of a task's version, for `seconds`."""
    from scheduler_project.bench.workload import backlog_create  # noqa: PLC0415
    from tasks_app.models import TaskVersion  # noqa: PLC0415

    version = TaskVersion.objects.select_related("task").get(pk=version_id)
    began, created = time.monotonic(), 0
    while created < rate * seconds:
        elapsed = min(time.monotonic() - began, seconds)
        due = round(rate * elapsed) - created
        if due:
            backlog_create(version, version.task.queue, due)
            created += due
        time.sleep(BATCH_SECONDS)
    time.sleep(RINGING_SECONDS)


if __name__ == "__main__":
    django.setup()
    produce(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
