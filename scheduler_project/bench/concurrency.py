"""How much one worker holds at a time, and how soon it lets go of all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Max, Min, QuerySet

from scheduler_project.bench import process
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import (
    BenchError,
    backlog_create,
    runs_delete,
    wait_for_end,
    wait_while,
)
from scheduler_project.local.supervisor import Supervisor
from tasks_app.choices import RunStatus
from tasks_app.models import TaskRun, TaskVersion
from tasks_app.services.tasks import task_create

HELD = 1_000
MANY_CALLS = 5_000
JOB_SECONDS = 60
"""Longer than it takes to start them all: each is still there when all are."""
CALL_SECONDS = 300
SHORT_CALL_SECONDS = 20
TARGET_MB = 90
TARGET_CANCEL_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Load:
    """What is held: a name for people, and the task's executor and command."""

    name: str
    executor: str
    command: str


def concurrency(rig: Rig) -> Iterator[Row]:
    """Have one worker hold HELD shell jobs, then HELD slow HTTP calls, and cancel all;
    then have it end MANY_CALLS HTTP calls. Memory is RSS of the worker's own process;
    the cancel is from the flag in the ledger to the last end, by the database's clock.
    """
    jobs = Load("shell jobs", "shell", f"sleep {JOB_SECONDS}")
    yield from _held_rows(rig, jobs)
    with rig.services() as services:
        url = rig.start_slow_server(services, CALL_SECONDS)
        yield from _held_rows(rig, Load("HTTP calls", "http", url))
    with rig.services() as services:
        url = rig.start_slow_server(services, SHORT_CALL_SECONDS)
        yield from _many_rows(rig, Load("HTTP calls", "http", url))


def _held_rows(rig: Rig, load: Load) -> Iterator[Row]:
    rig.plan.tell(f"Holding {HELD:,} {load.name} ...")
    with rig.queue() as queue, rig.services() as services:
        version = _start(rig, services, queue, load, HELD)
        running = _runs(version).filter(status=RunStatus.RUNNING)
        wait_while(services, HELD, lambda: running.count() < HELD)
        worker = process.child("worker")  # it has claimed them; each opens a file
        wait_while(services, HELD, lambda: process.open_files(worker) < HELD)
        name = f"{HELD:,} {load.name} held"
        yield _memory_row(f"{name}, worker's RSS")
        rig.cancel(services, version.task_id)
        wait_for_end(services, HELD)
        yield Row(
            f"{name}, all cancelled after",
            _cancel_seconds(version),
            "s",
            TARGET_CANCEL_SECONDS,
            is_delay=True,
        )


def _many_rows(rig: Rig, load: Load) -> Iterator[Row]:
    rig.plan.tell(f"Holding {MANY_CALLS:,} {load.name} ...")
    with rig.queue() as queue, rig.services() as services:
        version = _start(rig, services, queue, load, MANY_CALLS)
        wait_for_end(services, MANY_CALLS)
        name = f"{MANY_CALLS:,} {load.name} held"
        yield _memory_row(f"{name}, worker's RSS", target=None)
        ends = Counter(_runs(version).values_list("status", "reason"))
        rig.plan.tell(f"They ended as {dict(ends)}.")
        succeeded = ends[RunStatus.SUCCEEDED, ""]
        yield Row(f"{name}, succeeded", float(succeeded), "runs", MANY_CALLS)


def _start(
    rig: Rig, services: Supervisor, queue: str, load: Load, count: int
) -> TaskVersion:
    """Start a worker with `count` slots on a backlog of as many runs."""
    runs_delete()
    values: Mapping[str, Any] = {
        "name": f"{queue} {load.name}",
        "executor": load.executor,
        "command": load.command,
        "queue": queue,
    }
    version = TaskVersion.objects.get(task=task_create(values=dict(values)))
    backlog_create(version, queue, count)
    rig.start_workers(services, queue, 1, WORKER_CONCURRENCY=str(count))
    return version


def _runs(version: TaskVersion) -> QuerySet[TaskRun]:
    return TaskRun.objects.filter(task=version.task_id)


def _memory_row(name: str, target: float | None = TARGET_MB) -> Row:
    rss = process.memory_mb(process.child("worker"))
    return Row(name, rss, "MB", target, is_delay=True)


def _cancel_seconds(version: TaskVersion) -> float:
    """From the first flag to the last end.

    Raises:
        BenchError: a run has not been cancelled.
    """
    runs = _runs(version)
    if others := runs.exclude(status=RunStatus.CANCELLED).count():
        raise BenchError(f"{others} runs were not cancelled")
    found = runs.aggregate(asked=Min("cancel_requested_at"), last=Max("completed_at"))
    return float((found["last"] - found["asked"]).total_seconds())
