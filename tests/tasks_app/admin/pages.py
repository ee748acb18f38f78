"""Addresses of the console, and what tests ask of an answer."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from tasks_app.models import Alert, Calendar, Project, Task, TaskRun

TASKS = "admin:tasks_app_task_{}"
RUNS = "admin:tasks_app_taskrun_{}"
WORKERS = "admin:workers_app_workerinfo_{}"
QUEUES = "admin:tasks_app_queue_{}"
PROJECTS = "admin:tasks_app_project_{}"
CALENDARS = "admin:tasks_app_calendar_{}"
ALERTS = "admin:tasks_app_alert_{}"


def task_url(task: Task | int, page: str = "page") -> str:
    pk = task if isinstance(task, int) else task.pk
    return reverse(TASKS.format(page), args=[pk])


def run_url(run: TaskRun, page: str = "change") -> str:
    return reverse(RUNS.format(page), args=[run.pk])


def calendar_url(calendar: Calendar, page: str = "page") -> str:
    return reverse(CALENDARS.format(page), args=[calendar.pk])


def project_url(project: Project) -> str:
    return reverse(PROJECTS.format("change"), args=[project.pk])


def alert_url(alert: Alert) -> str:
    return reverse(ALERTS.format("resolve"), args=[alert.pk])


def queue_url(name: str) -> str:
    return f"{reverse(QUEUES.format('limit'))}?{urlencode({'queue': name})}"


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
        "overlap": "allow",
        "max_concurrency": "",
        "max_queued": "",
        "rate_limit": "",
        "pause_after_failures": "",
        "retention_days": "",
        "queue": "default",
        "priority": "5",
        "placement": "any",
        "worker_name": "",
        "match": "",
        "jitter_seconds": "0",
        "calendars": None,
        "trigger_rule": "all_success",
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
        "parents-1-task": "",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def calendar_fields(*windows: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A filled-in form of a calendar, with these rows."""
    rows = {
        f"windows-{index}-{name}": value
        for index, window in enumerate(windows)
        for name, value in {"unit": "3600", **window}.items()
    }
    return {
        "name": "nights",
        "timezone": "Europe/Berlin",
        "action": "skip",
        "description": "",
        "windows-TOTAL_FORMS": str(len(windows)),
        "windows-INITIAL_FORMS": "0",
        **rows,
        **changes,
    }
