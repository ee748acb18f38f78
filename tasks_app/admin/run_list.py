"""The list of runs, newest first: paged by id, never counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks_app.choices import RunStatus, Trigger
from tasks_app.models import Task
from tasks_app.run_history import (
    MAX_ID,
    RunSearch,
    run_created_at,
    runs_by_id,
    search_down,
    worker_ids,
)

PER_PAGE = 50
HOUR = timedelta(hours=1)
MAX_TASKS = 100

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

    hour = forms.DateTimeField(
        required=False,
        label=_("Ended in the hour from (UTC)"),
        widget=forms.DateTimeInput(
            format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local"}
        ),
    )

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data, auto_id="filter-%s")

    @property
    def is_set(self) -> bool:
        """Whether any filter narrows the list."""
        return any(self.data.get(name) for name in self.fields)

    def search(self) -> RunSearch:
        """A filter with an unknown value matches nothing."""
        if not self.is_valid():
            return RunSearch(statuses=())
        chosen = self.cleaned_data
        statuses: tuple[str, ...] | None = None
        if chosen["status"]:
            statuses = (chosen["status"],)
        if chosen["status"] == "unfinished":
            statuses = (RunStatus.QUEUED, RunStatus.RUNNING)
        length, _label = WINDOWS.get(chosen["window"], (None, ""))
        hour = chosen["hour"]
        return RunSearch(
            task_ids=_task_ids(chosen["task"]) if chosen["task"] else None,
            statuses=statuses,
            triggers=(chosen["trigger"],) if chosen["trigger"] else None,
            worker_ids=worker_ids(chosen["worker"]) if chosen["worker"] else None,
            scheduled_after=timezone.now() - length if length else None,
            ended_after=hour,
            ended_before=hour + HOUR if hour else None,
        )


def _task_ids(text: str) -> tuple[int, ...]:
    """The tasks of a name, or of a part of it; deleted ones too, for runs outlive
    them. Resolved first, so that the list is found by the index of its task."""
    if text.isdecimal() and int(text) <= MAX_ID:
        return (int(text),)
    ids = Task.objects.values_list("pk", flat=True)
    named = ids.filter(name__iexact=text)[:MAX_TASKS]
    return tuple(named or ids.filter(name__icontains=text)[:MAX_TASKS])


def run_list(query: QueryDict) -> dict[str, Any]:
    filters = RunFilters(query)
    before = query.get("before", "")
    is_number = before.isdecimal() and int(before) <= MAX_ID
    found = search_down(
        filters.search(),
        before=int(before) if is_number else MAX_ID,
        limit=PER_PAGE + 1,
    )
    runs = runs_by_id(found.run_ids[:PER_PAGE])
    is_cut = len(found.run_ids) <= PER_PAGE and found.edge is not None
    return {
        "title": _("Runs"),
        "filters": filters,
        "runs": runs,
        "older_from": found.edge if is_cut else _last(found.run_ids),
        "searched_to": run_created_at(found.edge) if is_cut and found.edge else None,
        "is_history_away": found.is_history_away,
        "is_first": not before,
        "is_busy": any(not run.is_terminal for run in runs),
    }


def _last(run_ids: Sequence[int]) -> int | None:
    """The last run of a full page that has older ones."""
    return run_ids[PER_PAGE - 1] if len(run_ids) > PER_PAGE else None
