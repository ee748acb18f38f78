"""The dependencies of a task as rows of its form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tasks_app.errors import FieldError, InvalidInput
from tasks_app.models import Project, Task
from tasks_app.services.tasks import ParentInput

EMPTY_ROWS = 2
NAMES_OFFERED = 500


class ParentForm(forms.Form):
    """One dependency: a task by name."""

    task = forms.CharField(
        required=False,
        max_length=310,
        label=_("Task"),
        widget=forms.TextInput(attrs={"list": "task-names", "autocomplete": "off"}),
    )


class BaseParentFormSet(forms.BaseFormSet):  # type: ignore[type-arg] # not at run time
    def given(self, project: Project) -> list[ParentInput]:
        """The rows that name a task; an emptied row takes its dependency away.

        Raises:
            InvalidInput: a row names no task.
        """
        self._rows = [
            (index, form.cleaned_data)
            for index, form in enumerate(self.forms)
            if form.cleaned_data.get("task")
        ]
        found = [find_task(values["task"], project) for _index, values in self._rows]
        unknown = [
            FieldError(
                ("depends_on", str(index), "task"),
                "unknown_task",
                "there is no such task",
            )
            for index, task_id in enumerate(found)
            if task_id is None
        ]
        if unknown:
            raise InvalidInput(unknown)
        return [ParentInput(task_id) for task_id in found if task_id]

    def add_errors(self, errors: Iterable[FieldError]) -> None:
        """Show errors of `depends_on/<index>/...`, counted over the rows given."""
        for error in errors:
            index, _values = self._rows[int(error.path[1])]
            self.forms[index].add_error(
                "task", forms.ValidationError(error.message, error.code)
            )


ParentFormSet: Any = forms.formset_factory(
    ParentForm,
    formset=BaseParentFormSet,
    extra=EMPTY_ROWS,
    max_num=100,
    absolute_max=102,
)


def parent_initial(task: Task) -> list[dict[str, Any]]:
    """A task's dependencies, as names: of another project's task with its project."""
    edges = task.parent_edges.select_related("parent__project").order_by("pk")
    return [{"task": parent_name(edge.parent, task.project_id)} for edge in edges]


def parent_name(parent: Task, project_id: int) -> str:
    if parent.project_id == project_id:
        return parent.name
    return f"{parent.project.name}/{parent.name}"


def find_task(reference: str, project: Project) -> int | None:
    """The id of a task by its name in the project, or by `project/name`."""
    tasks = Task.objects.existing().values_list("pk", flat=True)
    own = tasks.filter(project=project, name=reference).first()
    if own is not None:
        return own
    other, _slash, name = reference.partition("/")
    return tasks.filter(project__name=other, name=name).first()


def task_names() -> Sequence[str]:
    """What the browser offers while one types."""
    rows = Task.objects.existing().order_by("name").values_list("name", flat=True)
    return list(rows[:NAMES_OFFERED])
