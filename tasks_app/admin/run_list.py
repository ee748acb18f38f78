"""The list of runs, newest first: paged by id, never counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks_app.choices import RunStatus, Trigger
from tasks_app.models import Task, TaskRun

PER_PAGE = 50
MAX_ID = 2**63 - 1

WINDOWS = {
    "1h": (timedelta(hours=1), _("Last hour")),
    "24h": (timedelta(days=1), _("Last 24 hours")),
    "7d": (timedelta(days=7), _("Last 7 days")),
}


class RunFilters(forms.Form):
    """The query string of the list."""

    status = forms.ChoiceField(
        required=False,
        label=_("Status"),
        choices=[
            ("", _("Any status")),
            ("unfinished", _("Unfinished")),
            *RunStatus.choices,
        ],
    )
    task = forms.CharField(
        required=False,
        max_length=200,
        label=_("Task"),
        widget=forms.TextInput(attrs={"placeholder": _("Task name or id")}),
    )
    trigger = forms.ChoiceField(
        required=False,
        label=_("Trigger"),
        choices=[("", _("Any trigger")), *Trigger.choices],
    )
    worker = forms.CharField(
        required=False,
        max_length=200,
        label=_("Worker"),
        widget=forms.TextInput(attrs={"placeholder": _("Worker name")}),
    )
    window = forms.ChoiceField(
        required=False,
        label=_("Window"),
        choices=[
            ("", _("Any time")),
            *((name, label) for name, (_length, label) in WINDOWS.items()),
        ],
    )

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data, auto_id="filter-%s")

    @property
    def is_set(self) -> bool:
        """Whether any filter narrows the list."""
        return any(self.data.get(name) for name in self.fields)

    def apply(self, runs: QuerySet[TaskRun]) -> QuerySet[TaskRun]:
        """A filter with an unknown value matches nothing."""
        if not self.is_valid():
            return runs.none()
        chosen = self.cleaned_data
        if chosen["status"] == "unfinished":
            runs = runs.filter(status__in=[RunStatus.QUEUED, RunStatus.RUNNING])
        elif chosen["status"]:
            runs = runs.filter(status=chosen["status"])
        if chosen["task"]:
            runs = runs.filter(task__in=_task_ids(chosen["task"]))
        if chosen["trigger"]:
            runs = runs.filter(trigger=chosen["trigger"])
        if chosen["worker"]:
            runs = runs.filter(worker__name=chosen["worker"])
        if chosen["window"]:
            length, _label = WINDOWS[chosen["window"]]
            runs = runs.filter(scheduled_for__gte=timezone.now() - length)
        return runs


def _task_ids(text: str) -> list[int]:
    """The tasks of a name, or of a part of it; deleted ones too, for runs outlive
    them. Resolved first, so that the list is found by the index of its task."""
    if text.isdecimal() and int(text) <= MAX_ID:
        return [int(text)]
    names = Task.objects.filter(name__iexact=text) or Task.objects.filter(
        name__icontains=text
    )
    return [task.pk for task in names[:100]]


def run_list(query: QueryDict) -> dict[str, Any]:
    filters = RunFilters(query)
    found = list(_page(filters.apply(runs_listed()), query.get("before", "")))
    runs, has_older = found[:PER_PAGE], len(found) > PER_PAGE
    return {
        "title": _("Runs"),
        "filters": filters,
        "runs": runs,
        "older_from": runs[-1].pk if has_older else None,
        "is_first": not query.get("before"),
        "is_busy": any(not run.is_terminal for run in runs),
    }


def runs_listed() -> QuerySet[TaskRun]:
    """Runs with what a line of the list reads."""
    return (
        TaskRun.objects.select_related("task", "worker")
        .defer(
            "params", "result", "task__command", "task__payload", "task__description"
        )
        .order_by("-pk")
    )


def _page(runs: QuerySet[TaskRun], before: str) -> Sequence[TaskRun]:
    """A page and one more run, which tells that there is a next page."""
    if before.isdecimal() and int(before) <= MAX_ID:
        runs = runs.filter(pk__lt=int(before))
    return runs[: PER_PAGE + 1]  # type: ignore[return-value] # a queryset is one
