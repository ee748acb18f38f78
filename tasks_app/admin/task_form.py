"""The form of a task: what, when, how, and after which other tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from executors import registry
from tasks_app.admin.parent_forms import ParentFormSet, parent_initial
from tasks_app.admin.policy_form import (
    LIMITS,
    POLICY_FIELDS,
    WHERE,
    PolicyForm,
    rate_text,
    rate_values,
)
from tasks_app.admin.schedule_form import FORM_FIELDS, ScheduleForm, schedule_initial
from tasks_app.choices import Backoff, Delivery, Misfire
from tasks_app.errors import InvalidInput, VersionMismatch
from tasks_app.models import Project, Task
from tasks_app.models.project import DEFAULT_PROJECT
from tasks_app.services.tasks import UNCHANGED, task_create, task_update

WHAT = ("name", "project", "executor", "command", "payload", "description")
HOW = (
    "timeout_seconds",
    "start_deadline_seconds",
    "delivery",
    "max_attempts",
    "retry_backoff",
    "retry_initial_seconds",
    "retry_max_seconds",
)
VALUES = (
    *WHAT,
    *HOW,
    *(name for name in LIMITS if name != "rate_limit"),
    *WHERE,
    "timezone",
    "misfire",
    "jitter_seconds",
    "trigger_rule",
)
"""The fields of the form that are fields of Task."""

TASK_FIELDS: dict[tuple[str, ...], str] = {
    **FORM_FIELDS,
    **POLICY_FIELDS,
    **{(name,): name for name in VALUES},
    ("retry", "max_attempts"): "max_attempts",
    ("retry", "backoff"): "retry_backoff",
    ("retry", "initial_seconds"): "retry_initial_seconds",
    ("retry", "max_seconds"): "retry_max_seconds",
}


class JsonObject(forms.CharField):
    """A JSON object as text."""

    widget = forms.Textarea(attrs={"rows": 4, "spellcheck": "false"})

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return {}
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise forms.ValidationError(
                f"This is not JSON: {error.msg} ({where}).", "invalid_json"
            ) from error
        except (RecursionError, ValueError) as error:
            raise forms.ValidationError(
                _("This is not JSON that can be kept: too deep, or a number too long."),
                "invalid_json",
            ) from error
        if not isinstance(found, dict):
            raise forms.ValidationError(
                _('Give a JSON object, such as {"key": "value"}.'), "not_an_object"
            )
        return found

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return json.dumps(value, indent=2, ensure_ascii=False) if value else ""
        return value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class TaskForm(PolicyForm, ScheduleForm):
    """Everything about a task but its dependencies."""

    name = forms.CharField(max_length=200, label=_("Name"))
    project = forms.ModelChoiceField(
        Project.objects.all(), label=_("Project"), empty_label=None
    )
    description = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        label=_("Description"),
    )
    executor = forms.ChoiceField(label=_("Executor"))
    command = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        label=_("Command"),
        help_text=_("A shell line, a URL, or the name of a registered callable."),
    )
    payload = JsonObject(
        required=False,
        label=_("Payload"),
        help_text=_("The executor's other parameters, as a JSON object."),
    )
    misfire = forms.ChoiceField(
        choices=Misfire,
        initial=Misfire.LATEST,
        label=_("Missed fires"),
        help_text=_(
            "Which of the fires missed in a pause, or with no scheduler, are run."
        ),
    )
    timeout_seconds = forms.IntegerField(
        min_value=1, initial=3600, label=_("Timeout"), help_text=_("seconds")
    )
    start_deadline_seconds = forms.IntegerField(
        required=False,
        min_value=1,
        label=_("Start deadline"),
        help_text=_("seconds; a run that has not started by then expires"),
    )
    delivery = forms.ChoiceField(
        choices=Delivery,
        initial=Delivery.AT_MOST_ONCE,
        label=_("Delivery"),
        help_text=_(
            "At least once: run again if the worker dies. Needed for more than one"
            " attempt."
        ),
    )
    max_attempts = forms.IntegerField(
        min_value=1, max_value=20, initial=1, label=_("Attempts")
    )
    retry_backoff = forms.ChoiceField(
        choices=Backoff, initial=Backoff.EXPONENTIAL, label=_("Backoff")
    )
    retry_initial_seconds = forms.IntegerField(
        min_value=0, initial=30, label=_("First wait"), help_text=_("seconds")
    )
    retry_max_seconds = forms.IntegerField(
        min_value=0, initial=3600, label=_("Longest wait"), help_text=_("seconds")
    )
    expected_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(
        self, data: QueryDict | None = None, *, initial: Mapping[str, Any]
    ) -> None:
        super().__init__(data, initial=dict(initial), label_suffix="")
        names = list(registry.names())
        if (own := initial.get("executor")) and own not in names:
            names.append(own)  # its package is not installed here
        self.fields["executor"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]

    def values(self) -> dict[str, Any]:
        given = self.cleaned_data
        return {
            **{name: given[name] for name in VALUES},
            **rate_values(given["rate_limit"]),
            "calendars": given["calendars"],
        }

    def fields_of(self, names: tuple[str, ...]) -> list[forms.BoundField]:
        return [self[name] for name in names]


class TaskEditor:
    """A task's form and its dependencies' forms, filled from a task or a request."""

    def __init__(self, task: Task | None = None, data: QueryDict | None = None) -> None:
        self.task = task
        initial = _initial(task) if task else _blank()
        self.form = TaskForm(data, initial=initial)
        self.parents = ParentFormSet(
            data, initial=parent_initial(task) if task else [], prefix="parents"
        )

    def save(self, user: User) -> Task | None:
        """Hand the form to the services; None if something in it is wrong, which its
        fields then tell."""
        if not (self.form.is_valid() & self.parents.is_valid()):
            return None
        try:
            return self._update(self.task, user) if self.task else self._create(user)
        except InvalidInput as error:
            self._show(error)
        except VersionMismatch:
            self.form.add_error(
                None,
                _(
                    "The task has been changed since you opened this page. Open it"
                    " again in another tab, and repeat your changes there."
                ),
            )
        return None

    def _create(self, user: User) -> Task:
        return task_create(
            values=self.form.values(),
            schedule=self.form.schedule_input(),
            parents=self.parents.given(self.form.cleaned_data["project"]),
            actor=user,
        )

    def _update(self, task: Task, user: User) -> Task:
        form = self.form
        # An untouched schedule is left alone: an interval keeps its anchor.
        schedule = form.schedule_input() if form.is_rescheduled else UNCHANGED
        return task_update(
            task_id=task.pk,
            values=form.values(),
            schedule=schedule,
            parents=self.parents.given(form.cleaned_data["project"]),
            expected_version=form.cleaned_data["expected_version"],
            actor=user,
        )

    def _show(self, error: InvalidInput) -> None:
        theirs = [one for one in error.errors if one.path[0] == "depends_on"]
        ours = [one for one in error.errors if one.path[0] != "depends_on"]
        self.parents.add_errors(theirs)
        self.form.add_errors(InvalidInput(ours), TASK_FIELDS)


def _initial(task: Task) -> dict[str, Any]:
    values = {name: getattr(task, name) for name in VALUES}
    return {
        **values,
        **schedule_initial(task),
        "rate_limit": rate_text(task),
        "calendars": list(task.calendars.values_list("pk", flat=True)),
        "expected_version": task.version,
    }


def _blank() -> dict[str, Any]:
    project = Project.objects.filter(name=DEFAULT_PROJECT).first()
    return {"project": project, "executor": "shell"}
