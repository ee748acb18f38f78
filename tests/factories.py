"""Tasks and runs as tests need them, made by the product's own services."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from tasks_app import ledger
from tasks_app.ledger import Beat, Claimant, ClaimedRun, Finish
from tasks_app.models import Task, TaskRun
from tasks_app.services.runs import run_trigger
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import ParentInput, task_create
from workers_app.models import WorkerInfo
from workers_app.registration import worker_register

_numbers = count(1)
FIRST = 100
"""A priority that no task can have."""


def make_task(*parents: Task, **values: Any) -> Task:
    """A shell task that does nothing; without a schedule unless one is given as
    `cron`, `interval_seconds` or `at`."""
    schedule: dict[str, Any] = {
        name: values.pop(name)
        for name in ("cron", "interval_seconds", "at", "start_at", "end_at")
        if name in values
    }
    number = next(_numbers)
    return task_create(
        values={
            "name": f"task-{number}",
            "executor": "shell",
            "command": "true",
            **values,
        },
        schedule=ScheduleInput.of(schedule) if schedule else None,
        parents=[ParentInput(parent.pk) for parent in parents],
    )


def make_run(task: Task | None = None, **values: Any) -> TaskRun:
    """A queued run."""
    return run_trigger(task=task or make_task(), actor="user:test", **values)


def make_worker(name: str = "", **values: Any) -> WorkerInfo:
    return worker_register(
        name or f"worker-{next(_numbers)}",
        **{"max_tasks": 10, "queues": ["default"], **values},
    )


def ask(limit: int = 1, worker: WorkerInfo | None = None) -> list[ClaimedRun]:
    """What a worker gets that asks for so many runs."""
    worker = worker or make_worker()
    return ledger.claim(claimant_of(worker), limit)


def claimant_of(worker: WorkerInfo) -> Claimant:
    """As whom this worker's process claims."""
    return Claimant(
        worker.pk, tuple(worker.queues), worker.name, frozenset(worker.tags)
    )


def claim(run: TaskRun, worker: WorkerInfo | None = None) -> ClaimedRun:
    """Claim this run, whatever else waits."""
    runs = TaskRun.objects.filter(pk=run.pk)
    priority = runs.get().priority
    runs.update(priority=FIRST)
    (found,) = ask(worker=worker)
    runs.update(priority=priority)
    assert found.run_id == run.pk
    return found


def end(run: TaskRun, status: str = "succeeded", **values: Any) -> TaskRun:
    """Claim a queued run and finish it."""
    found = claim(run)
    ledger.finish([Finish(found.run_id, found.attempt, status, **values)])
    run.refresh_from_db()
    return run


def heartbeat(worker: WorkerInfo, *leases: ledger.Lease) -> ledger.HeartbeatAnswer:
    return ledger.heartbeat(Beat(worker.pk, "online", len(leases)), leases)


def backdate(task: Task, seconds: float) -> Task:
    """Move a task's schedule and its cursor into the past."""
    shift(Task, task.pk, seconds, "next_fire_at")
    row = task.schedule
    assert row
    for name in ("start_time", "expires"):
        if getattr(row, name):
            setattr(row, name, getattr(row, name) - timedelta(seconds=seconds))
    if row.clocked:
        row.clocked.clocked_time -= timedelta(seconds=seconds)
        row.clocked.save()
    row.save()
    task.refresh_from_db()
    return task


def shift(model: Any, pk: object, seconds: float, *fields: str) -> None:
    """Move times of a row: what would be, had so many seconds passed."""
    row = model.objects.get(pk=pk)
    changed: dict[str, datetime] = {
        name: getattr(row, name) - timedelta(seconds=seconds)
        for name in fields
        if getattr(row, name) is not None
    }
    model.objects.filter(pk=pk).update(**changed)
