"""The filters of the list of tasks."""

from __future__ import annotations

from typing import Any

import django_filters

from tasks_app.api.filters import MomentFilter, StableOrdering
from tasks_app.choices import TaskStatus
from tasks_app.models import Task

Choice = django_filters.ChoiceFilter
Char = django_filters.CharFilter


class TaskFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    status = Choice(
        choices=[pair for pair in TaskStatus.choices if pair[0] != TaskStatus.DELETED]
    )
    project = Char("project__name", help_text="The project's name.")
    executor = Char()
    queue = Char()
    q = Char("name", "icontains", help_text="A part of the name.")
    next_fire_before = MomentFilter(
        method="fires_before", help_text="Active tasks that fire before this time."
    )
    ordering = StableOrdering(
        fields=["name", "next_fire_at", "created_at", "updated_at"]
    )

    class Meta:
        model = Task
        fields: list[str] = []

    def fires_before(self, tasks: Any, name: str, at: Any) -> Any:
        return tasks.filter(status=TaskStatus.ACTIVE, next_fire_at__lt=at)
