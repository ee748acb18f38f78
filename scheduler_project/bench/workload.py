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
SLOTS = 256
"""WORKER_CONCURRENCY where short jobs come by the thousand, as docs/configuration.md
advises: more runs share a transaction."""
MAX_QUEUED = 1_000_000
"""A backlog of any measurement; by default a task's 10,001st run is skipped."""
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
            "max_queued": MAX_QUEUED,
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
        cursor.execute(
            "TRUNCATE tasks_app_taskrun, tasks_app_runevent, tasks_app_runlog,"
            " tasks_app_runtally, tasks_app_hourtally"
        )
        cursor.execute("CHECKPOINT")


def wait_for_end(services: Supervisor, runs: int) -> None:
    """Wait until none of the `runs` runs is unfinished; raises as `wait_while`."""
    wait_while(services, runs, lambda: TaskRun.objects.unfinished().exists())


def wait_for_count(services: Supervisor, runs: int) -> None:
    """Wait until there are `runs` runs; raises as `wait_while`."""
    wait_while(services, runs, lambda: TaskRun.objects.count() < runs)


def wait_while(
    services: Supervisor, runs: int, is_going_on: Callable[[], bool]
) -> None:
    """Wait with an eye on the services, as long as `runs` runs may take.

    Raises:
        ServiceDiedError: a process of the side has ended.
        NotReadyError: it is slower than SLOWEST_RATE.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS + runs / SLOWEST_RATE
    while is_going_on():
        if time.monotonic() > deadline:
            raise NotReadyError(f"{runs} runs are not over in time")
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
    delays = TaskRun.objects.order_by("created_at", "id").values_list(
        F("started_at") - F("created_at"), flat=True
    )
    return [delay.total_seconds() * 1000 for delay in delays[skipped:]]


def created_a_second() -> float:
    """Runs a second, from the first that was created to the last."""
    found = TaskRun.objects.aggregate(
        runs=Count("id"), span=Max("created_at") - Min("created_at")
    )
    return float(found["runs"] / found["span"].total_seconds())
