"""A worker's row: written at its start and at its end."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

from django.conf import settings

from tasks_app.ledger import database_now
from workers_app.models import WorkerInfo, WorkerStatus


def worker_register(name: str, *, max_tasks: int, queues: Sequence[str]) -> WorkerInfo:
    """Make, or take over, the row of the worker `name`."""
    now = database_now()
    worker, _is_new = WorkerInfo.objects.update_or_create(
        name=name,
        defaults={
            "status": WorkerStatus.ONLINE,
            "last_heartbeat": now,
            "started_at": now,
            "current_tasks": 0,
            "max_tasks": max_tasks,
            "queues": list(queues),
            "version": gnomon_version(),
            "host": {
                "name": platform.node(),
                "pid": os.getpid(),
                "processors": os.cpu_count(),
                "python": platform.python_version(),
            },
        },
    )
    return worker


def worker_offline(worker_id: int) -> None:
    """Note that a worker has stopped."""
    WorkerInfo.objects.filter(pk=worker_id).update(
        status=WorkerStatus.OFFLINE, current_tasks=0
    )


def workers_mark_silent() -> list[str]:
    """Mark the workers offline whose last heartbeat is older than a lease.

    Returns:
        Their names.
    """
    since = database_now() - timedelta(seconds=settings.LEASE_SECONDS)
    silent = list(WorkerInfo.objects.silent(since))
    WorkerInfo.objects.silent(since).filter(pk__in=[w.pk for w in silent]).update(
        status=WorkerStatus.OFFLINE, current_tasks=0
    )
    return [worker.name for worker in silent]


def gnomon_version() -> str:
    """The installed version, or the source tree's."""
    try:
        return version("gnomon")
    except PackageNotFoundError:
        return "0.1.0"
