"""The filters of the list of runs."""

from __future__ import annotations

from typing import Any

import django_filters

from tasks_app.api.fields import MAX_ID
from tasks_app.api.filters import IdFilter, MomentFilter
from tasks_app.api.v1.lookups import id_of, is_numeric
from tasks_app.choices import RunStatus, Trigger
from tasks_app.models import Task, TaskRun
from tasks_app.run_history import RunSearch, worker_ids

Char = django_filters.CharFilter


class RunFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    """Checks the query and says what is searched for: names are looked up first, so
    that the search itself reads the table of runs alone."""

    task = Char(help_text="A task's id or name.")
    project = Char(help_text="The project's name.")
    status = django_filters.MultipleChoiceFilter(
        choices=RunStatus.choices, help_text="May be given several times."
    )
    trigger = django_filters.ChoiceFilter(choices=Trigger.choices)
    worker = Char(help_text="The worker's name.")
    queue = Char()
    started_after = MomentFilter()
    started_before = MomentFilter()
    root = IdFilter(help_text="The run that began a workflow, and its own.")

    class Meta:
        model = TaskRun
        fields: list[str] = []

    def search(self) -> RunSearch:
        """What a valid query searches for."""
        given: dict[str, Any] = self.form.cleaned_data
        return RunSearch(
            task_ids=_task_ids(given["task"], given["project"]),
            statuses=tuple(given["status"]) or None,
            triggers=(given["trigger"],) if given["trigger"] else None,
            worker_ids=worker_ids(given["worker"]) if given["worker"] else None,
            queues=(given["queue"],) if given["queue"] else None,
            root_id=int(given["root"]) if given["root"] else None,
            started_after=given["started_after"],
            started_before=given["started_before"],
        )


def _task_ids(reference: str, project: str) -> tuple[int, ...] | None:
    """Deleted tasks too, for runs outlive them."""
    if not reference and not project:
        return None
    tasks = Task.objects.order_by()
    if project:
        tasks = tasks.filter(project__name=project)
    if is_numeric(reference):
        tasks = tasks.filter(pk=id_of(reference) or -MAX_ID)
    elif reference:
        tasks = tasks.filter(name=reference)
    return tuple(tasks.values_list("pk", flat=True))
