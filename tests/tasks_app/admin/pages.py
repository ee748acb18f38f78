"""Addresses of the console, and what tests ask of an answer."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from tasks_app.models import Task, TaskRun

TASKS = "admin:tasks_app_task_{}"
RUNS = "admin:tasks_app_taskrun_{}"
WORKERS = "admin:workers_app_workerinfo_{}"


def task_url(task: Task | int, page: str = "page") -> str:
    pk = task if isinstance(task, int) else task.pk
    return reverse(TASKS.format(page), args=[pk])


def run_url(run: TaskRun, page: str = "change") -> str:
    return reverse(RUNS.format(page), args=[run.pk])


def list_url(pattern: str, page: str = "changelist") -> str:
    return reverse(pattern.format(page))


def task_fields(**changes: Any) -> dict[str, Any]:
    """A filled-in task form; None leaves a field out."""
    fields = {
        "name": "nightly",
        "project": "",
        "executor": "shell",
        "command": "echo hello",
        "payload": "",
        "description": "",
        "kind": "cron",
        "cron": "0 3 * * *",
        "every": "",
        "unit": "60",
        "at": "",
        "timezone": "Europe/Berlin",
        "start_at": "",
        "end_at": "",
        "misfire": "latest",
        "queue": "default",
        "timeout_seconds": "3600",
        "start_deadline_seconds": "",
        "delivery": "at_most_once",
        "max_attempts": "1",
        "retry_backoff": "exponential",
        "retry_initial_seconds": "30",
        "retry_max_seconds": "3600",
        "expected_version": "",
        "parents-TOTAL_FORMS": "2",
        "parents-INITIAL_FORMS": "0",
        "parents-0-task": "",
        "parents-0-condition": "success",
        "parents-1-task": "",
        "parents-1-condition": "success",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}
