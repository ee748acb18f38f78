"""The page of one run: how it is, how it came to it, and what it said."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tasks_app.admin.run_log import last_lines
from tasks_app.admin.timeline import timeline
from tasks_app.choices import RunStatus
from tasks_app.errors import HistoryAway
from tasks_app.explain import explain_run
from tasks_app.formats import queue_wait, run_duration
from tasks_app.models import RunEvent, TaskRun
from tasks_app.rules.states import TERMINAL
from tasks_app.run_history import RunSearch, runs_by_id, runs_shown, search_down
from tasks_app.services.runs import FAILED

RELATED_SHOWN = 20
TYPICAL_OF = 20


def run_page(run: TaskRun) -> dict[str, Any]:
    named, is_history_away = relatives_named(run)
    events = list(run.events.all())
    took, usual = run_duration(run), successes_took(run)
    below = statuses_below(run)
    return {
        "title": _("Run %(id)d · %(task)s") % {"task": run.task.name, "id": run.pk},
        "run": run,
        "is_history_away": is_history_away,
        "root": named.get(run.root_id or 0),
        "parent": named.get(run.parent_id or 0),
        "rerun_of": named.get(run.rerun_of_id or 0),
        "state": state(run),
        "max_attempts": run.version.definition.get("max_attempts", 1),
        "took": took,
        "took_seconds": took.total_seconds() if took else 0,
        "usual": median(usual) if usual else None,
        "is_slow": bool(took and usual and took.total_seconds() > max(usual)),
        "wait": queue_wait(run),
        "why": explain_run(run) if run.status == RunStatus.QUEUED else None,
        "events": event_rows(events),
        "rows": timeline(run, events),
        # Children are of their parent's workflow, which has an index.
        "children": related(run.children.filter(root=run.root_id or run.pk)),
        "reruns": related(TaskRun.objects.filter(rerun_of=run.pk)),
        "log": last_lines(run),
        "is_busy": not run.is_terminal,
        "is_cancellable": not run.is_terminal or not below <= TERMINAL,
        "has_failed_below": below <= TERMINAL and not below.isdisjoint(FAILED),
    }


def statuses_below(run: TaskRun) -> set[str]:
    """How the other runs of the workflow are that this run began."""
    if run.root_id is not None:
        return set()
    return set(run.descendants.order_by().values_list("status", flat=True).distinct())


def state(run: TaskRun) -> str:
    """Changes whenever the page has something else to show."""
    asked = "cancelling" if run.cancel_requested_at else ""
    return f"{run.status}.{run.attempt}.{asked}"


def successes_took(run: TaskRun) -> list[float]:
    """The seconds that the task's last successes before this run took."""
    search = RunSearch(task_ids=(run.task_id,), statuses=(RunStatus.SUCCEEDED,))
    found = search_down(search, before=run.pk, limit=TYPICAL_OF)
    times = TaskRun.objects.only("status", "started_at", "completed_at")
    successes = times.in_bulk(found.run_ids).values()
    return [took.total_seconds() for one in successes if (took := run_duration(one))]


def event_rows(events: Sequence[RunEvent]) -> list[tuple[RunEvent, str]]:
    """Each event with what its detail says."""
    return [(event, _detail(event.detail or {})) for event in events]


def _detail(detail: dict[str, Any]) -> str:
    """An event's detail on one line: what is empty is left out."""
    return ", ".join(
        f"{name} {value}" for name, value in detail.items() if value not in (None, "")
    )


def relatives(run: TaskRun) -> list[int]:
    """The runs that it came of."""
    return [each for each in (run.parent_id, run.root_id, run.rerun_of_id) if each]


def relatives_named(run: TaskRun) -> tuple[dict[int, TaskRun], bool]:
    """Them by their numbers, and whether some are missing, for the history is away."""
    try:
        return {each.pk: each for each in runs_by_id(relatives(run))}, False
    except HistoryAway:
        return runs_shown().in_bulk(relatives(run)), True


def related(runs: QuerySet[TaskRun]) -> Sequence[TaskRun]:
    """Runs that another led to."""
    ids = runs.order_by("pk").values_list("pk", flat=True)[:RELATED_SHOWN]
    return runs_by_id(list(ids))
