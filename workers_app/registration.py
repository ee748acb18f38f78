"""A worker's row: written at its start and at its end."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from django.conf import settings

from tasks_app.ledger import database_now
from workers_app.models import WorkerInfo, WorkerStatus

log = structlog.get_logger()


def worker_register(
    name: str,
    *,
    max_tasks: int,
    queues: Sequence[str],
    tags: Sequence[str] = (),
) -> WorkerInfo:
    """Make, or take over, the row of the worker `name`. A worker that starts anew
    is not draining any more."""
    now = database_now()
    worker, _is_new = WorkerInfo.objects.update_or_create(
        name=name,
        defaults={
            "status": WorkerStatus.ONLINE,
            "last_heartbeat": now,
            "started_at": now,
            "current_tasks": 0,
            "is_draining": False,
            "max_tasks": max_tasks,
            "queues": list(queues),
            "tags": list(tags),
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


def containment_note(worker_id: int, found: Mapping[str, Any]) -> None:
    """Put on the worker's row what its host allows for containment, and say where that
    is less than all (C8)."""
    worker = WorkerInfo.objects.get(pk=worker_id)
    worker.host = {**worker.host, "containment": found}
    worker.save(update_fields=["host"])
    for what, why in found["missing"].items():
        log.warning("worker.containment_is_weaker", missing=what, reason=why)


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
