"""The part of the task form that bounds its runs, and says where they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tasks_app.choices import Overlap, Placement, TriggerRule
from tasks_app.models import Calendar, Project, Task
from tasks_app.models.project import MAX_RETENTION_DAYS
from tasks_app.rules.rates import Rate, RateInvalid, parse_rate

LIMITS = (
    "overlap",
    "max_concurrency",
    "max_queued",
    "rate_limit",
    "pause_after_failures",
    "retention_days",
)
WHERE = ("queue", "priority", "placement", "worker_name", "match")
SPREAD = ("jitter_seconds", "calendars")

POLICY_FIELDS: dict[tuple[str, ...], str] = {
    **{(name,): name for name in (*LIMITS, *WHERE, *SPREAD, "trigger_rule")},
    ("schedule", "jitter_seconds"): "jitter_seconds",
}
"""Where the form has a field of the services' errors."""


class RateField(forms.CharField):
    """A rate as people write it: 10/m."""

    def clean(self, value: Any) -> Rate | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            return parse_rate(text)
        except RateInvalid as error:
            raise forms.ValidationError(error.message, error.code) from error


@dataclass(frozen=True, slots=True)
class Section:
    """Fields that are folded away while they say nothing of interest."""

    fields: list[forms.BoundField]

    @property
    def is_open(self) -> bool:
        return any(
            field.errors or field.field.has_changed(field.field.initial, field.value())
            for field in self.fields
        )


class PolicyForm(forms.Form):
    """How many at a time, how often, where, and after which endings."""

    overlap = forms.ChoiceField(
        choices=Overlap,
        initial=Overlap.ALLOW,
        label=_("Overlap"),
        help_text=_("What becomes of a run when as many run as may."),
    )
    max_concurrency = forms.IntegerField(
        required=False,
        min_value=1,
        label=_("Runs at a time"),
        help_text=_("Empty: 1, or no limit where overlap is allowed."),
    )
    max_queued = forms.IntegerField(
        required=False,
        min_value=1,
        label=_("Runs that may wait"),
        help_text=_("Empty: as many as the server allows. More are skipped."),
    )
    rate_limit = RateField(
        required=False,
        max_length=40,
        label=_("Rate limit"),
        help_text=_("Starts per time, such as 10/m, 100/15m or 5/s."),
    )
    pause_after_failures = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=1000,
        label=_("Pause after failures"),
        help_text=_("Pauses itself after so many failed runs in a row."),
    )
    retention_days = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_RETENTION_DAYS,
        label=_("Days that runs are kept"),
        help_text=_("Empty: as its project says. 0: for ever."),
    )
    queue = forms.CharField(
        max_length=100,
        initial="default",
        label=_("Queue"),
        help_text=_("Only workers that serve it take its runs."),
    )
    priority = forms.IntegerField(
        min_value=0,
        max_value=9,
        initial=5,
        label=_("Priority"),
        help_text=_("0 to 9; the highest starts first."),
    )
    placement = forms.ChoiceField(
        choices=Placement, initial=Placement.ANY, label=_("Placement")
    )
    worker_name = forms.CharField(
        required=False,
        max_length=200,
        label=_("Worker name"),
        help_text=_("For the placement on a named one."),
    )
    match = forms.CharField(
        required=False,
        max_length=500,
        label=_("Worker tags"),
        help_text=_("That a worker must have: gpu and not (eu or spot)."),
    )
    jitter_seconds = forms.IntegerField(
        min_value=0,
        initial=0,
        label=_("Jitter"),
        help_text=_("seconds; each fire starts up to so much later"),
    )
    calendars = forms.ModelMultipleChoiceField(
        Calendar.objects.all(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label=_("Calendars"),
        help_text=_("It does not fire within their windows."),
    )
    trigger_rule = forms.ChoiceField(
        choices=TriggerRule,
        initial=TriggerRule.ALL_SUCCESS,
        label=_("It runs when"),
    )

    def section(self, names: tuple[str, ...]) -> Section:
        return Section([self[name] for name in names])


def rate_values(rate: Rate | None) -> dict[str, int | None]:
    """A rate as fields of Task, and of Project."""
    if rate is None:
        blank = Task()
        rate_limit_seconds: int | None = blank.rate_limit_seconds
        return {"rate_limit_runs": None, "rate_limit_seconds": rate_limit_seconds}
    return {"rate_limit_runs": rate.runs, "rate_limit_seconds": rate.seconds}


def rate_text(limited: Task | Project) -> str:
    """A rate limit as people write it; empty if there is none."""
    if limited.rate_limit_runs is None:
        return ""
    return str(Rate(limited.rate_limit_runs, limited.rate_limit_seconds))
