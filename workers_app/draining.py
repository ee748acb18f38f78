"""Draining: a worker claims nothing new, and finishes what it has."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from django.db.models import Count

from tasks_app.choices import RunStatus
from tasks_app.errors import Conflict
from tasks_app.models import TaskRun
from workers_app.models import WorkerInfo

log = structlog.get_logger()


class WorkerOffline(Conflict):
    """The worker is offline: it claims nothing, and will not be draining when it comes
    back."""

    code = "worker_offline"


def worker_drain(*, worker: WorkerInfo, actor: str, is_draining: bool) -> WorkerInfo:
    """Have a worker claim nothing from now on, or let it claim again. Its claims know
    of it at once, its process with the next heartbeat. Asking twice is the same as
    asking once.

    Raises:
        WorkerOffline: there is nothing to drain.
    """
    changed = WorkerInfo.objects.alive().filter(pk=worker.pk)
    if not changed.update(is_draining=is_draining):
        raise WorkerOffline
    event = "worker.drained_by" if is_draining else "worker.undrained_by"
    log.info(event, worker=worker.name, actor=actor)
    worker.refresh_from_db()
    return worker


def with_runs_held(workers: Iterable[WorkerInfo]) -> list[WorkerInfo]:
    """The workers, each with `runs_held`: the runs that it has in hand, by the ledger.
    One statement for all."""
    running = TaskRun.objects.filter(status=RunStatus.RUNNING).order_by()
    held = dict(running.values_list("worker_id").annotate(Count("pk")))
    found = list(workers)
    for worker in found:
        worker.runs_held = held.get(worker.pk, 0)
    return found
