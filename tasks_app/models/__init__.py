"""What should run and what happened: one noun a file."""

from __future__ import annotations

from tasks_app.models.dependency import TaskDependency
from tasks_app.models.idempotency import IdempotencyKey
from tasks_app.models.project import Project
from tasks_app.models.run import RunEvent, RunLog, TaskRun
from tasks_app.models.task import Task, TaskVersion

__all__ = [
    "IdempotencyKey",
    "Project",
    "RunEvent",
    "RunLog",
    "Task",
    "TaskDependency",
    "TaskRun",
    "TaskVersion",
]
