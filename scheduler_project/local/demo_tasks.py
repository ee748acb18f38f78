"""Six small tasks that do real work, and how each of them should end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tasks_app import ledger
from tasks_app.choices import Backoff, RunStatus, Trigger
from tasks_app.models import Task
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import ParentInput, task_create

LEAD = timedelta(seconds=2)
"""From the creation of the tasks to their first fire."""
INTERVAL_FIRES = 4


INTERVAL = {
    "name": "demo-interval",
    "description": "Runs every second, for a few seconds.",
    "executor": "shell",
    "command": 'echo "fired for $GNOMON_SCHEDULED_FOR"',
}
CRON = {
    "name": "demo-cron",
    "description": "Runs every minute.",
    "executor": "shell",
    "command": "echo every minute",
}
EXTRACT = {
    "name": "demo-extract",
    "description": "The first step of a pipeline.",
    "executor": "shell",
    "command": "echo 42 rows extracted",
}
REPORT = {
    "name": "demo-report",
    "description": "The second step: runs when demo-extract has succeeded.",
    "executor": "shell",
    "command": "echo report written",
}
HTTP = {
    "name": "demo-http",
    "description": "Asks the platform itself how it is.",
    "executor": "http",
}
RETRY = {
    "name": "demo-retry",
    "description": "Fails twice and succeeds at the third attempt.",
    "executor": "shell",
    "command": 'echo "attempt $GNOMON_ATTEMPT"; test "$GNOMON_ATTEMPT" -ge 3',
    "max_attempts": 3,
    "retry_backoff": Backoff.CONSTANT,
    "retry_initial_seconds": 1,
}
TIMEOUT = {
    "name": "demo-timeout",
    "description": "Is killed at its timeout.",
    "executor": "shell",
    "command": "echo sleeping; sleep 60",
    "timeout_seconds": 1,
}


@dataclass(frozen=True, slots=True)
class Expected:
    """How the runs of a task should end. None: whatever it is."""

    status: str = RunStatus.SUCCEEDED
    trigger: str = Trigger.SCHEDULE
    runs: int | None = 1
    attempts: int = 1
    exit_code: int | None = 0
    output: str | None = None
    """The first line of the last attempt's output."""


@dataclass(frozen=True, slots=True)
class DemoTask:
    """A task to create. `after` names the demo task whose success starts it."""

    values: Mapping[str, Any]
    expected: Expected
    schedule: ScheduleInput | None = None
    after: str | None = None

    @property
    def name(self) -> str:
        return str(self.values["name"])


def demo_tasks(first_fire: datetime, web_url: str) -> Sequence[DemoTask]:
    """The demo tasks, with their parents before them."""
    once = ScheduleInput(at=first_fire)
    every_second = ScheduleInput(
        interval_seconds=1,
        start_at=first_fire,
        end_at=first_fire + timedelta(seconds=INTERVAL_FIRES - 1),
    )
    every_minute = ScheduleInput(cron="* * * * *")
    return [
        DemoTask(INTERVAL, Expected(runs=INTERVAL_FIRES), every_second),
        DemoTask(CRON, Expected(runs=None, output="every minute"), every_minute),
        DemoTask(EXTRACT, Expected(output="42 rows extracted"), once),
        DemoTask(
            REPORT,
            Expected(trigger=Trigger.DEPENDENCY, output="report written"),
            after=str(EXTRACT["name"]),
        ),
        DemoTask(
            {**HTTP, "command": f"{web_url}/healthz"}, Expected(exit_code=None), once
        ),
        DemoTask(RETRY, Expected(attempts=3, output="attempt 3"), once),
        DemoTask(
            TIMEOUT,
            Expected(RunStatus.TIMED_OUT, exit_code=None, output="sleeping"),
            once,
        ),
    ]


def demo_tasks_create(web_url: str) -> Sequence[DemoTask]:
    """Create the demo tasks, to fire in a moment. The web service must be there."""
    first_fire = ledger.database_now().replace(microsecond=0) + LEAD
    demos = demo_tasks(first_fire, web_url)
    ids: dict[str, int] = {}
    for demo in demos:
        parents = [ParentInput(ids[demo.after])] if demo.after else []
        task = task_create(values=demo.values, schedule=demo.schedule, parents=parents)
        ids[demo.name] = task.pk
    return demos


def is_first_start() -> bool:
    """Whether no task has ever been defined here; a deleted one keeps its row."""
    return not Task.objects.exists()
