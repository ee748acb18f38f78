"""Many tasks due in one second: that each fires once, in order, and how soon."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count
from django_celery_beat.models import ClockedSchedule, PeriodicTask

from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import (
    COMMAND,
    BenchError,
    runs_delete,
    wait_for_count,
    wait_for_end,
)
from tasks_app import ledger
from tasks_app.models import Project, Task, TaskRun, TaskVersion
from tasks_app.models.task import DEFINITION_FIELDS

BEATS = 2
LEAD_SECONDS = 20
"""From the definition of the tasks to their common time."""
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Burst:
    """Seconds count from the common time. `overtakings`: runs that started although
    one of a higher priority had waited for more than WAITING_SECONDS."""

    tasks: int
    planned_seconds: float
    last_start_seconds: float
    last_end_seconds: float
    overtakings: int


WAITING_SECONDS = 0.5
"""A run that was created so long ago is committed, and was there to be claimed."""


def burst(rig: Rig, *, tasks: int) -> Iterator[Row]:
    """Have `tasks` tasks of ten priorities fall due in one second, with two beats.

    Raises:
        BenchError: a task has not exactly one run, or a run has failed.
    """
    runs_delete()
    with rig.queue() as queue, rig.services() as services:
        rig.start_workers(services, queue, rig.plan.workers)
        for _ in range(BEATS):
            rig.start_beat(services)
        due_at = ledger.database_now() + timedelta(seconds=LEAD_SECONDS)
        due_at = due_at.replace(microsecond=0)
        tasks_create(queue, tasks, due_at)
        wait_for_count(services, tasks)
        wait_for_end(services, tasks)
    yield from _rows(_measured(queue, tasks, due_at))


def _rows(found: Burst) -> Iterator[Row]:
    figures = {
        "all planned after": (found.planned_seconds, "s", None),
        "all started after": (found.last_start_seconds, "s", None),
        "all ended after": (found.last_end_seconds, "s", None),
        "started out of order": (float(found.overtakings), "runs", 0.0),
    }
    for label, (value, unit, target) in figures.items():
        name = f"{found.tasks:,} tasks due at once, {label}"
        yield Row(name, value, unit, target, is_delay=True)


def tasks_create(queue: str, count: int, due_at: datetime, *, name: str = "") -> None:
    """Define one-off tasks in bulk, as `task_create` would one by one; `name` begins
    their names, which the queue's does by default."""
    clocked = ClockedSchedule.objects.create(clocked_time=due_at)
    project = Project.objects.get(name="default")
    made_at = ledger.database_now()
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        schedules = PeriodicTask.objects.bulk_create(
            PeriodicTask(
                name=f"{name or queue}-{number}",
                task="gnomon.doorbell",
                clocked=clocked,
                one_off=True,
            )
            for number in numbers
        )
        made = Task.objects.bulk_create(
            Task(
                project=project,
                name=f"{name or queue}-{number}",
                executor="shell",
                command=COMMAND,
                queue=queue,
                priority=number % 10,
                schedule=schedule,
                next_fire_at=due_at,
            )
            for number, schedule in zip(numbers, schedules, strict=True)
        )
        TaskVersion.objects.bulk_create(
            TaskVersion(
                task=task, number=1, definition=definition(task), created_at=made_at
            )
            for task in made
        )


def definition(task: Task) -> dict[str, object]:
    values = {name: getattr(task, name) for name in DEFINITION_FIELDS}
    return json.loads(json.dumps({**values, "schedule": None}))  # type: ignore[no-any-return]


def _measured(queue: str, tasks: int, due_at: datetime) -> Burst:
    runs = TaskRun.objects.filter(queue=queue)
    doubled = runs.values("task").annotate(runs=Count("id")).exclude(runs=1).count()
    succeeded = runs.filter(status="succeeded", attempt=1).count()
    if doubled or succeeded != tasks:
        raise BenchError(f"{doubled} tasks fired twice, {succeeded} runs succeeded")
    ranked = runs.order_by("-priority", "due_at", "id")
    rows: list[Any] = list(
        ranked.values_list("created_at", "started_at", "completed_at")
    )
    created, started, completed = (
        (max(times) - due_at).total_seconds() for times in zip(*rows, strict=True)
    )
    overtakings = _overtakings([(row[0], row[1]) for row in rows])
    return Burst(tasks, created, started, completed, overtakings)


def _overtakings(ranked: Sequence[tuple[datetime, datetime]]) -> int:
    """Of runs in the order in which they should start, each as (created, started):
    how many started while a better one waited."""
    waited = timedelta(seconds=WAITING_SECONDS)
    coming = sorted((at + waited, rank) for rank, (at, _) in enumerate(ranked))
    starting = sorted((at, rank) for rank, (_, at) in enumerate(ranked))
    waiting: list[int] = []
    found, arrived = 0, 0
    for at, rank in starting:
        while arrived < len(coming) and coming[arrived][0] <= at:
            heapq.heappush(waiting, coming[arrived][1])
            arrived += 1
        while waiting and ranked[waiting[0]][1] < at:  # has started meanwhile
            heapq.heappop(waiting)
        found += bool(waiting) and waiting[0] < rank and ranked[waiting[0]][1] > at
    return found
