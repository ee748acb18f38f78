"""What both sides run, and how their rows are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from django.db import connection
from django.db.models import Count, F, Max, Min, Q

from scheduler_project.local.errors import PlatformError
from scheduler_project.local.supervisor import NotReadyError, Supervisor
from tasks_app import ledger
from tasks_app.choices import RunStatus, Trigger
from tasks_app.models import TaskRun, TaskVersion
from tasks_app.services.tasks import task_create

COMMAND = "true"
BATCH = 500
POLL_SECONDS = 0.2
"""A question that often costs the machine next to nothing."""
PATIENCE_SECONDS = 60.0
SLOWEST_RATE = 20
"""Runs per second; below, the bench gives up."""


class BenchError(PlatformError):
    """A measurement that says nothing."""


def version_create(queue: str) -> TaskVersion:
    """Define the task of a measurement; returns its version."""
    task = task_create(
        values={
            "name": queue,
            "executor": "shell",
            "command": COMMAND,
            "queue": queue,
        }
    )
    return TaskVersion.objects.get(task=task)


def backlog_create(version: TaskVersion, queue: str, runs: int) -> None:
    """Have the ledger create `runs` queued runs."""
    new = ledger.NewRun(
        task_id=version.task_id,
        version_id=version.pk,
        trigger=Trigger.API,
        queue=queue,
    )
    for start in range(0, runs, BATCH):
        ledger.create([new] * min(BATCH, runs - start))


def runs_delete() -> None:
    """Empty the tables, and have the disk hold nothing back for the next side."""
    with connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = warning")
        cursor.execute("TRUNCATE tasks_app_taskrun CASCADE")
        cursor.execute("CHECKPOINT")


def wait_for_end(services: Supervisor, runs: int) -> None:
    """Wait until none of the `runs` runs is queued or running.

    Raises:
        ServiceDiedError: a process of the side has ended.
        NotReadyError: it is slower than SLOWEST_RATE.
    """
    _wait(services, runs, lambda: TaskRun.objects.unfinished().exists())


def wait_for_count(services: Supervisor, runs: int) -> None:
    """Wait until there are `runs` runs; raises as `wait_for_end`."""
    _wait(services, runs, lambda: TaskRun.objects.count() < runs)


def _wait(services: Supervisor, runs: int, is_going_on: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS + runs / SLOWEST_RATE
    while is_going_on():
        if time.monotonic() > deadline:
            left = TaskRun.objects.unfinished().count()
            raise NotReadyError(f"{left} of {runs} runs are not over in time")
        services.wait(POLL_SECONDS)


def rate(runs: int) -> float:
    """Runs per second, from the first start to the last end.

    Raises:
        BenchError: not all of them have succeeded.
    """
    found = TaskRun.objects.aggregate(
        succeeded=Count("id", filter=Q(status=RunStatus.SUCCEEDED)),
        first=Min("started_at"),
        last=Max("completed_at"),
    )
    if found["succeeded"] != runs:
        raise BenchError(f"only {found['succeeded']} of {runs} runs have succeeded")
    span: timedelta = found["last"] - found["first"]
    return runs / span.total_seconds()


def delays_ms(skipped: int) -> Sequence[float]:
    """From queued to started, in ms, but for the first `skipped` runs."""
    delays = TaskRun.objects.order_by("id").values_list(
        F("started_at") - F("created_at"), flat=True
    )
    return [delay.total_seconds() * 1000 for delay in delays[skipped:]]
