"""The part of the task form that says when, and its live preview."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.forms.fields import BaseTemporalField
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from tasks_app import ledger
from tasks_app.errors import FieldError, InvalidInput
from tasks_app.ledger.planning import Calendars, calendar_rule
from tasks_app.models import Calendar, Task
from tasks_app.rules.blackout import BlackoutCalendar, blackout_at
from tasks_app.rules.schedules import (
    CronSchedule,
    IntervalSchedule,
    OneOffSchedule,
    Schedule,
    ScheduleInvalid,
    describe,
    next_fires,
    parse_timezone,
    warnings,
)
from tasks_app.services.schedules import ScheduleInput, schedule_parse

FIRES_SHOWN = 10

KINDS = [
    ("none", _("No schedule")),
    ("cron", _("Cron")),
    ("every", _("Every …")),
    ("once", _("Once")),
]
UNITS = [
    ("86400", _("days")),
    ("3600", _("hours")),
    ("60", _("minutes")),
    ("1", _("seconds")),
]

FORM_FIELDS: dict[tuple[str, ...], str] = {
    ("schedule",): "kind",
    ("schedule", "cron"): "cron",
    ("schedule", "interval_seconds"): "every",
    ("schedule", "at"): "at",
    ("schedule", "start_at"): "start_at",
    ("schedule", "end_at"): "end_at",
    ("schedule", "misfire"): "misfire",
    ("timezone",): "timezone",
}
"""Where the form has a field of the services' errors."""


class LocalDateTime(forms.DateTimeField):
    """A date and time on the wall clock of the task's zone."""

    widget = forms.DateTimeInput(
        attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"
    )
    input_formats = [
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M",
    ]

    def prepare_value(self, value: Any) -> Any:
        return value  # already on the wall clock: not to be moved to the server's zone

    def to_python(self, value: Any) -> datetime | None:
        if value in self.empty_values:
            return None
        return BaseTemporalField.to_python(self, value)

    def strptime(self, value: str, format: str) -> datetime:  # noqa: A002 - Django's name
        return datetime.strptime(value, format)  # noqa: DTZ007 - a wall clock


class ScheduleForm(forms.Form):
    """When a task runs."""

    kind = forms.ChoiceField(
        choices=KINDS, initial="none", widget=forms.RadioSelect, label=_("Schedule")
    )
    cron = forms.CharField(
        required=False,
        max_length=1000,
        label=_("Cron expression"),
        help_text=_("minute hour day-of-month month day-of-week, as in crontab(5)"),
    )
    every = forms.IntegerField(required=False, min_value=1, label=_("Every"))
    unit = forms.ChoiceField(
        choices=UNITS, required=False, initial="60", label=_("Unit")
    )
    at = LocalDateTime(required=False, label=_("At"))
    timezone = forms.CharField(
        max_length=100,
        initial="UTC",
        label=_("Time zone"),
        help_text=_("Times on this page are of this zone."),
        widget=forms.TextInput(attrs={"list": "zone-names", "autocomplete": "off"}),
    )
    start_at = LocalDateTime(required=False, label=_("Not before"))
    end_at = LocalDateTime(required=False, label=_("Not after"))

    SCHEDULE_FIELDS = (
        "kind",
        "cron",
        "every",
        "unit",
        "at",
        "timezone",
        "start_at",
        "end_at",
    )

    @property
    def is_rescheduled(self) -> bool:
        return bool(set(self.changed_data) & set(self.SCHEDULE_FIELDS))

    def clean_timezone(self) -> str:
        name: str = self.cleaned_data["timezone"]
        try:
            return parse_timezone(name).key
        except ScheduleInvalid as error:
            raise forms.ValidationError(error.message, error.code) from error

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        needed = {"cron": "cron", "every": "every", "once": "at"}.get(
            cleaned.get("kind", "")
        )
        if needed and not cleaned.get(needed) and needed not in self.errors:
            self.add_error(
                needed, forms.ValidationError(_("This field is required."), "required")
            )
        return cleaned

    def schedule_input(self) -> ScheduleInput | None:
        """The schedule in the words of the services; call on a valid form."""
        chosen = self.cleaned_data
        match chosen["kind"]:
            case "cron":
                return ScheduleInput.of({"cron": chosen["cron"], **self._window()})
            case "every":
                seconds = chosen["every"] * int(chosen["unit"] or 1)
                return ScheduleInput.of({"interval_seconds": seconds, **self._window()})
            case "once":
                return ScheduleInput(at=self._instant("at"))
        return None

    def _window(self) -> dict[str, datetime | None]:
        return {name: self._instant(name) for name in ("start_at", "end_at")}

    def _instant(self, name: str) -> datetime | None:
        wall: datetime | None = self.cleaned_data[name]
        zone = ZoneInfo(self.cleaned_data["timezone"])
        return wall.replace(tzinfo=zone) if wall else None

    def add_errors(self, error: InvalidInput, fields: Mapping[Any, str]) -> None:
        """Show each error of a service on the field that it names."""
        for one in error.errors:
            field, message = self._place(one, fields)
            self.add_error(field, forms.ValidationError(message, one.code))

    def _place(
        self, error: FieldError, fields: Mapping[Any, str]
    ) -> tuple[str | None, str]:
        """The field that shows an error; what of the path it does not tell is told."""
        for length in range(len(error.path), 0, -1):
            name = fields.get(error.path[:length], "")
            if name in self.fields:
                rest = "/".join(error.path[length:])
                return name, f"{rest}: {error.message}" if rest else error.message
        return None, f"{'/'.join(error.path)}: {error.message}"


def schedule_initial(task: Task) -> dict[str, Any]:
    """A task's schedule as the form's values."""
    rule, zone = task.schedule_rule(), task.timezone
    match rule:
        case CronSchedule():
            shown: dict[str, Any] = {"kind": "cron", "cron": rule.expression}
            start_at, end_at = rule.start_at, rule.end_at
        case IntervalSchedule():
            shown = {"kind": "every", **_largest_unit(rule.seconds)}
            start_at, end_at = rule.anchor, rule.end_at
        case OneOffSchedule():
            shown = {"kind": "once", "at": _wall(rule.at, zone)}
            start_at = end_at = None
        case None:
            shown, start_at, end_at = {"kind": "none"}, None, None
    return {
        **shown,
        "timezone": zone,
        "start_at": _wall(start_at, zone),
        "end_at": _wall(end_at, zone),
    }


def _largest_unit(seconds: int) -> dict[str, Any]:
    unit = next(size for size, _label in UNITS if seconds % int(size) == 0)
    return {"every": seconds // int(unit), "unit": unit}


def _wall(at: datetime | None, zone: str) -> datetime | None:
    if at is None:
        return None
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None, microsecond=0)


def preview(query: QueryDict) -> dict[str, Any]:
    """What a schedule means: in words, its next fires, its surprises, or its errors."""
    form = ScheduleForm(query)
    if not form.is_valid():
        return {"errors": _errors(form)}
    now, given = ledger.database_now(), form.schedule_input()
    if given is None:
        return {}
    zone = form.cleaned_data["timezone"]
    try:
        rule = schedule_parse(given, zone, now)
    except InvalidInput as error:
        form.add_errors(error, FORM_FIELDS)
        return {"errors": _errors(form)}
    return schedule_shown(rule, zone, now, _chosen_calendars(query))


def _chosen_calendars(query: QueryDict) -> list[BlackoutCalendar]:
    ids = [pk for pk in query.getlist("calendars") if re.fullmatch("[0-9]{1,18}", pk)]
    rows = Calendar.objects.filter(pk__in=ids) if ids else ()
    return [calendar_rule(row) for row in rows]


def current_preview(task: Task) -> dict[str, Any] | None:
    """The preview of a task's schedule as it is."""
    rule = task.schedule_rule()
    if rule is None:
        return None
    calendars = Calendars().of(task)
    return schedule_shown(rule, task.timezone, ledger.database_now(), calendars)


def schedule_shown(
    rule: Schedule, zone: str, now: datetime, calendars: Sequence[BlackoutCalendar]
) -> dict[str, Any]:
    """A schedule in words, and its next fires, each with what a blackout does to it."""
    fires = next_fires(rule, now, FIRES_SHOWN)
    return {
        "description": describe(rule),
        "zone": zone,
        "fires": [(at, blackout_at(calendars, at)) for at in fires],
        "warnings": warnings(rule, now),
    }


def _errors(form: ScheduleForm) -> list[tuple[str, str]]:
    """The errors by the labels of their fields. What is still to be typed is none."""
    return [
        (str(form[name].label), message)
        for name, errors in form.errors.as_data().items()
        for error in errors
        if error.code != "required"
        for message in error.messages
    ]
