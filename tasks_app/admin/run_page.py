"""The page of one run: how it is, how it came to it, and what it said."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from django.utils.translation import gettext as _

from tasks_app.admin.run_log import last_lines
from tasks_app.admin.timeline import timeline
from tasks_app.choices import RunStatus
from tasks_app.formats import queue_wait, run_duration
from tasks_app.models import RunEvent, TaskRun

RELATED_SHOWN = 20
TYPICAL_OF = 20


def run_page(run: TaskRun) -> dict[str, Any]:
    events = list(run.events.all())
    took, usual = run_duration(run), successes_took(run)
    return {
        "title": _("Run %(id)d · %(task)s") % {"task": run.task.name, "id": run.pk},
        "run": run,
        "state": state(run),
        "max_attempts": run.version.definition.get("max_attempts", 1),
        "took": took,
        "took_seconds": took.total_seconds() if took else 0,
        "usual": median(usual) if usual else None,
        "is_slow": bool(took and usual and took.total_seconds() > max(usual)),
        "wait": queue_wait(run),
        "events": event_rows(events),
        "rows": timeline(run, events),
        "children": related(run, "children"),
        "reruns": related(run, "reruns"),
        "log": last_lines(run),
        "is_busy": not run.is_terminal,
    }


def state(run: TaskRun) -> str:
    """Changes whenever the page has something else to show."""
    asked = "cancelling" if run.cancel_requested_at else ""
    return f"{run.status}.{run.attempt}.{asked}"


def successes_took(run: TaskRun) -> list[float]:
    """The seconds that the task's last successes before this run took."""
    successes = (
        TaskRun.objects.filter(
            task=run.task_id, status=RunStatus.SUCCEEDED, pk__lt=run.pk
        )
        .only("status", "started_at", "completed_at")
        .order_by("-pk")[:TYPICAL_OF]
    )
    return [took.total_seconds() for one in successes if (took := run_duration(one))]


def event_rows(events: Sequence[RunEvent]) -> list[tuple[RunEvent, str]]:
    """Each event with what its detail says."""
    return [(event, _detail(event.detail or {})) for event in events]


def _detail(detail: dict[str, Any]) -> str:
    """An event's detail on one line: what is empty is left out."""
    return ", ".join(
        f"{name} {value}" for name, value in detail.items() if value not in (None, "")
    )


def related(run: TaskRun, name: str) -> Sequence[TaskRun]:
    """Runs that this one led to."""
    runs = getattr(run, name).select_related("task")
    return runs.only("status", "task__name").order_by("pk")[:RELATED_SHOWN]  # type: ignore[no-any-return]
