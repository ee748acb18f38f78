"""What should run and what happened: one noun a file."""

from __future__ import annotations

from tasks_app.models.alert import Alert
from tasks_app.models.archive import ArchivedMonth
from tasks_app.models.calendar import Calendar
from tasks_app.models.dependency import TaskDependency
from tasks_app.models.history import HistoryStart, HourTally, RunTally
from tasks_app.models.idempotency import IdempotencyKey
from tasks_app.models.limits import Breaker, Queue, RateStart
from tasks_app.models.project import Project
from tasks_app.models.run import RunEvent, RunLog, TaskRun
from tasks_app.models.task import Task, TaskVersion

__all__ = [
    "Alert",
    "ArchivedMonth",
    "Breaker",
    "Calendar",
    "HistoryStart",
    "HourTally",
    "IdempotencyKey",
    "Project",
    "Queue",
    "RateStart",
    "RunEvent",
    "RunLog",
    "RunTally",
    "Task",
    "TaskDependency",
    "TaskRun",
    "TaskVersion",
]
