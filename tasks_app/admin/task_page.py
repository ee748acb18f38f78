"""The page of one task: what it will do next, what it did, and how it is defined."""

from __future__ import annotations

from statistics import median
from typing import Any

from django.utils.translation import gettext as _

from tasks_app.admin.schedule_form import current_preview
from tasks_app.admin.sparklines import bars
from tasks_app.admin.task_list import schedule_texts
from tasks_app.admin.task_policies import policy_texts
from tasks_app.choices import RunStatus, TaskStatus
from tasks_app.explain import explain_run
from tasks_app.formats import run_duration
from tasks_app.models import Task, TaskDependency, TaskRun, TaskVersion
from tasks_app.rules.states import TERMINAL

RUNS_SHOWN = 60
RUNS_LISTED = 15
VERSIONS_SHOWN = 20


def task_page(task: Task) -> dict[str, Any]:
    rule = task.schedule_rule()
    runs = recent_runs(task)
    waiting = task.runs.filter(status=RunStatus.QUEUED).order_by("pk").first()
    description, raw = schedule_texts(rule)
    return {
        "title": _("Task %s") % task.name,
        "task": task,
        "description": description,
        "raw": raw,
        "preview": current_preview(task),
        "is_active": task.status == TaskStatus.ACTIVE,
        "runs": runs[:RUNS_LISTED],
        "bars": bars(runs[::-1], RUNS_SHOWN),
        "figures": figures(runs),
        "parents": TaskDependency.objects.filter(child=task).select_related("parent"),
        "children": TaskDependency.objects.filter(parent=task).select_related("child"),
        "versions": versions(task),
        "policies": policy_texts(task),
        "calendars": task.calendars.all(),
        "waiting": waiting,
        "why": explain_run(waiting) if waiting else None,
        "is_busy": any(not run.is_terminal for run in runs),
    }


def recent_runs(task: Task) -> list[TaskRun]:
    """Newest first."""
    return list(task.runs.defer("params", "result").order_by("-pk")[:RUNS_SHOWN])


def figures(runs: list[TaskRun]) -> dict[str, Any]:
    """How the shown runs went."""
    ended = [run for run in runs if run.status in TERMINAL - {RunStatus.SKIPPED}]
    succeeded = [run for run in ended if run.status == RunStatus.SUCCEEDED]
    taken = [took.total_seconds() for run in succeeded if (took := run_duration(run))]
    return {
        "ended": len(ended),
        "succeeded": len(succeeded),
        "percent": round(100 * len(succeeded) / len(ended)) if ended else None,
        "median": median(taken) if taken else None,
    }


def versions(task: Task) -> list[TaskVersion]:
    """Newest first."""
    newest = task.versions.select_related("created_by").order_by("-number")
    return list(newest.defer("definition")[:VERSIONS_SHOWN])
