"""The question, on a task's page, what became of a fire."""

from __future__ import annotations

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from tasks_app.admin.schedule_form import LocalDateTime
from tasks_app.explain import Explanation, explain_fire
from tasks_app.formats import zone_of
from tasks_app.models import Task


class FireQuestion(forms.Form):
    """A nominal time, on the wall clock of the task's zone."""

    fire = LocalDateTime(label=_("Nominal time"))

    def __init__(self, task: Task, data: QueryDict) -> None:
        super().__init__(data if "fire" in data else None, label_suffix="")
        self.task = task

    def answer(self) -> Explanation | None:
        """What became of it; None if nothing is asked, or the time cannot be read."""
        if not self.is_valid():
            return None
        at = self.cleaned_data["fire"].replace(tzinfo=zone_of(self.task.timezone))
        return explain_fire(self.task, at)
