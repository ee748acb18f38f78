"""Queues: what waits and runs in each, who serves it, and its limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Min, Q

from tasks_app import ledger
from tasks_app.choices import RunStatus
from tasks_app.errors import FieldError, InvalidInput
from tasks_app.models import Queue, Task, TaskRun


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue as it is now. `oldest_wait_seconds` is that of the run that has been due
    for the longest; None if none is. `workers_online` counts those that serve it."""

    name: str
    description: str
    max_concurrency: int | None
    queued: int
    running: int
    oldest_wait_seconds: float | None
    workers_online: int


def queue_states() -> list[QueueState]:
    """Every queue that has a limit, a task, an unfinished run or a worker."""
    now = ledger.database_now()
    limited = Queue.objects.in_bulk()
    counted = _counted(now)
    online: Counter[str] = Counter()
    served: set[str] = set()
    for worker in ledger.workers():
        served.update(worker.queues)
        online.update(worker.queues if worker.is_online else ())
    of_tasks = Task.objects.existing().order_by().values_list("queue", flat=True)
    names = {*limited, *counted, *served, *of_tasks.distinct()}
    blank = Queue()
    return [
        QueueState(
            name,
            limited.get(name, blank).description,
            limited.get(name, blank).max_concurrency,
            *counted.get(name, (0, 0, None)),
            online[name],
        )
        for name in sorted(names)
    ]


def queue_state(name: str) -> QueueState | None:
    """One queue as it is now, if it is known at all."""
    return next((state for state in queue_states() if state.name == name), None)


def _counted(now: datetime) -> dict[str, tuple[int, int, float | None]]:
    """Runs queued and running, and the oldest's wait, by queue."""
    is_queued = Q(status=RunStatus.QUEUED)
    rows = (
        TaskRun.objects.unfinished()
        .order_by()
        .values("queue")
        .annotate(
            queued=Count("pk", filter=is_queued),
            running=Count("pk", filter=~is_queued),
            oldest=Min("due_at", filter=is_queued & Q(due_at__lte=now)),
        )
    )
    return {
        row["queue"]: (
            row["queued"],
            row["running"],
            (now - row["oldest"]).total_seconds() if row["oldest"] else None,
        )
        for row in rows
    }


@transaction.atomic
def queue_limit(*, name: str, values: Mapping[str, Any]) -> Queue:
    """Set fields of a queue: `max_concurrency`, `description`. It need not exist.

    A lower limit stops no run; a higher one is seen by the workers at their next look,
    a second later at most.

    Raises:
        InvalidInput: each wrong field, with its reason.
    """
    queue = Queue.objects.select_for_update().filter(pk=name).first() or Queue(
        name=name
    )
    for field, value in values.items():
        setattr(queue, field, value)
    try:
        queue.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        raise InvalidInput(
            [
                FieldError((field,), str(detail.code), text)
                for field, details in error.error_dict.items()
                for detail in details
                for text in detail.messages
            ]
        ) from error
    queue.save()
    return queue
