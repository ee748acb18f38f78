"""The filters of the list of runs."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Q

from tasks_app.api.fields import MAX_ID
from tasks_app.api.filters import IdFilter, MomentFilter
from tasks_app.api.v1.lookups import id_of, is_numeric
from tasks_app.choices import RunStatus, Trigger
from tasks_app.models import TaskRun

Char = django_filters.CharFilter


class RunFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    task = Char(method="of_task", help_text="A task's id or name.")
    project = Char("task__project__name", help_text="The project's name.")
    status = django_filters.MultipleChoiceFilter(
        choices=RunStatus.choices, help_text="May be given several times."
    )
    trigger = django_filters.ChoiceFilter(choices=Trigger.choices)
    worker = Char("worker__name", help_text="The worker's name.")
    queue = Char()
    started_after = MomentFilter("started_at", "gte")
    started_before = MomentFilter("started_at", "lt")
    root = IdFilter(
        method="of_root", help_text="The run that began a workflow, and its own."
    )

    class Meta:
        model = TaskRun
        fields: list[str] = []

    def of_task(self, runs: Any, name: str, reference: str) -> Any:
        if is_numeric(reference):
            return runs.filter(task_id=id_of(reference) or -MAX_ID)
        return runs.filter(task__name=reference)

    def of_root(self, runs: Any, name: str, root: Any) -> Any:
        return runs.filter(Q(root_id=int(root)) | Q(pk=int(root)))
