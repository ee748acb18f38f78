"""The list of tasks: what runs next, and how it has been going."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from executors import registry
from tasks_app.admin.sparklines import Bar, bars
from tasks_app.choices import RunStatus, TaskStatus
from tasks_app.formats import run_duration
from tasks_app.ledger.searching import RecentRun, recent_runs
from tasks_app.models import Project, Task
from tasks_app.paging import BoundedPaginator
from tasks_app.rules.schedules import CronSchedule, Schedule, describe

PER_PAGE = 50
RECENT_RUNS = 20
LATE_AFTER = timedelta(seconds=10)

ORDERS = {
    "name": ("name", "pk"),
    "-name": ("-name", "-pk"),
    "next": ("next_fire_at", "name", "pk"),
    "project": ("project__name", "name", "pk"),
}


class TaskFilters(forms.Form):
    """The query string of the list."""

    q = forms.CharField(required=False, label=_("Name"))
    status = forms.ChoiceField(
        required=False,
        label=_("Status"),
        choices=[
            ("", _("Any status")),
            *(c for c in TaskStatus.choices if c[0] != TaskStatus.DELETED),
        ],
    )
    project = forms.ModelChoiceField(
        Project.objects.all(),
        required=False,
        to_field_name="name",
        label=_("Project"),
        empty_label=_("Any project"),
    )
    executor = forms.ChoiceField(required=False, label=_("Executor"))
    queue = forms.CharField(required=False, label=_("Queue"))

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data, auto_id="filter-%s")
        names = [(name, name) for name in registry.names()]
        self.fields["executor"].choices = [("", _("Any executor")), *names]  # type: ignore[attr-defined]

    @property
    def is_set(self) -> bool:
        """Whether any filter narrows the list."""
        return any(self.data.get(name) for name in self.fields)

    def apply(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        """A filter with an unknown value matches nothing."""
        if not self.is_valid():
            return tasks.none()
        chosen = self.cleaned_data
        if chosen["q"]:
            tasks = tasks.filter(name__icontains=chosen["q"])
        for name in ("status", "project", "executor", "queue"):
            if chosen[name]:
                tasks = tasks.filter(**{name: chosen[name]})
        return tasks


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task as a line of the list."""

    task: Task
    schedule: str
    schedule_raw: str
    next_fire_at: datetime | None
    runs: Sequence[RecentRun] = field(default_factory=list)

    @property
    def bars(self) -> list[Bar]:
        return bars(self.runs, RECENT_RUNS)

    @property
    def is_late(self) -> bool:
        """Its time has passed and no scheduler has taken it up."""
        return self.next_fire_at is not None and (
            self.next_fire_at < timezone.now() - LATE_AFTER
        )

    @property
    def last_run(self) -> RecentRun | None:
        return self.runs[-1] if self.runs else None

    @property
    def label(self) -> str:
        """The sparkline in words."""
        good = sum(run.status == RunStatus.SUCCEEDED for run in self.runs)
        return ngettext(
            "%(good)d of the last %(all)d run succeeded",
            "%(good)d of the last %(all)d runs succeeded",
            len(self.runs),
        ) % {"good": good, "all": len(self.runs)}

    @property
    def last_duration(self) -> timedelta | None:
        return run_duration(self.last_run) if self.last_run else None


def task_list(query: QueryDict) -> dict[str, Any]:
    """What the template shows: four statements, however many tasks."""
    filters = TaskFilters(query)
    order = query.get("order", "")
    tasks = filters.apply(tasks_listed()).order_by(*ORDERS.get(order, ORDERS["name"]))
    page = BoundedPaginator(tasks, PER_PAGE).get_page(query.get("page"))
    rows = task_rows(list(page))
    return {
        "title": _("Tasks"),
        "filters": filters,
        "page": page,
        "rows": rows,
        "order": order or "name",
        "is_busy": any(not run.is_terminal for row in rows for run in row.runs),
    }


def tasks_listed() -> QuerySet[Task]:
    """Tasks with their schedule."""
    return Task.objects.existing().select_related(
        "project", "schedule__crontab", "schedule__interval", "schedule__clocked"
    )


def task_rows(tasks: Sequence[Task]) -> list[TaskRow]:
    runs = recent_runs([task.pk for task in tasks], RECENT_RUNS)
    return [
        TaskRow(
            task, *schedule_texts(task.schedule_rule()), fires_at(task), runs[task.pk]
        )
        for task in tasks
    ]


def schedule_texts(rule: Schedule | None) -> tuple[str, str]:
    """A schedule in words, and as it was written."""
    if rule is None:
        return "", ""
    return describe(rule), rule.expression if isinstance(rule, CronSchedule) else ""


def fires_at(task: Task) -> datetime | None:
    """The next nominal time; a paused task keeps its cursor and does not fire."""
    return task.next_fire_at if task.status == TaskStatus.ACTIVE else None
