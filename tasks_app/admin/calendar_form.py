"""The form of a calendar: its windows are rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from tasks_app.admin.schedule_form import UNITS, LocalDateTime
from tasks_app.choices import BlackoutAction
from tasks_app.errors import FieldError, InvalidInput
from tasks_app.formats import zone_of
from tasks_app.models import Calendar
from tasks_app.rules.blackout import MAX_WINDOWS
from tasks_app.services.calendars import calendar_create, calendar_update

EMPTY_ROWS = 2
FIELDS = ("name", "timezone", "action", "description")
ROW_FIELDS = {
    "cron": "cron",
    "duration_seconds": "lasts",
    "from": "begins_at",
    "until": "ends_at",
}
"""The fields of a window, and of its row."""


class CalendarForm(forms.Form):
    """Everything about a calendar but its windows."""

    name = forms.SlugField(
        max_length=100, label=_("Name"), help_text=_("letters, digits, - and _")
    )
    timezone = forms.CharField(
        max_length=64,
        initial="UTC",
        label=_("Time zone"),
        help_text=_("Times on this page are of this zone."),
        widget=forms.TextInput(attrs={"list": "zone-names", "autocomplete": "off"}),
    )
    action = forms.ChoiceField(
        choices=BlackoutAction,
        initial=BlackoutAction.SKIP,
        label=_("A fire in a window"),
    )
    description = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        label=_("Description"),
    )


class WindowForm(forms.Form):
    """One window: after each fire of a cron expression, or once from until."""

    cron = forms.CharField(required=False, max_length=1000, label=_("Begins (cron)"))
    lasts = forms.IntegerField(required=False, min_value=1, label=_("and lasts"))
    unit = forms.ChoiceField(
        choices=UNITS, required=False, initial="3600", label=_("Unit")
    )
    begins_at = LocalDateTime(required=False, label=_("or once from"))
    ends_at = LocalDateTime(required=False, label=_("until"))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        is_once = bool(cleaned.get("begins_at") or cleaned.get("ends_at"))
        if is_once and cleaned.get("cron"):
            message = _("A row is either a cron expression or one span: clear one.")
            self.add_error("cron", forms.ValidationError(message, "two_kinds"))
        needed = ("begins_at", "ends_at") if is_once else ("cron", "lasts")
        is_given = any(cleaned.get(name) for name in needed)
        for name in needed:
            if is_given and not cleaned.get(name) and name not in self.errors:
                message = _("This field is required.")
                self.add_error(name, forms.ValidationError(message, "required"))
        return cleaned

    def window(self) -> dict[str, Any] | None:
        """The window as the service takes it; None for an empty row. One that was not
        touched stays as it is written."""
        if self.initial and not self.has_changed():
            original: dict[str, Any] = self.initial["original"]
            return original
        given = self.cleaned_data
        if given.get("cron"):
            seconds = given["lasts"] * int(given["unit"] or 1)
            return {"cron": given["cron"], "duration_seconds": seconds}
        if given.get("begins_at"):
            begin, end = given["begins_at"], given["ends_at"]
            return {"from": begin.isoformat(), "until": end.isoformat()}
        return None


class BaseWindowFormSet(forms.BaseFormSet):  # type: ignore[type-arg] # not at run time
    def windows(self) -> list[dict[str, Any]]:
        """The rows that hold a window; an emptied row takes its window away."""
        found = [(form, form.window()) for form in self.forms]
        self._given = [form for form, window in found if window is not None]
        return [window for _form, window in found if window is not None]

    def add_errors(self, errors: Iterable[FieldError]) -> None:
        """Show errors of `windows/<index>/...`, counted over the rows given."""
        for error in errors:
            form = self._given[int(error.path[1])]
            field = ROW_FIELDS.get("".join(error.path[2:3]))
            form.add_error(field, forms.ValidationError(error.message, error.code))


WindowFormSet: Any = forms.formset_factory(
    WindowForm,
    formset=BaseWindowFormSet,
    extra=EMPTY_ROWS,
    max_num=MAX_WINDOWS,
    absolute_max=MAX_WINDOWS + EMPTY_ROWS,
)


class CalendarEditor:
    """A calendar's form and its rows, filled from a calendar or a request."""

    def __init__(self, calendar: Calendar | None, data: QueryDict | None) -> None:
        self.calendar = calendar
        initial = {name: getattr(calendar, name) for name in FIELDS} if calendar else {}
        rows = _rows(calendar) if calendar else []
        self.form = CalendarForm(data, initial=initial, label_suffix="")
        self.rows = WindowFormSet(
            data, initial=rows, prefix="windows", form_kwargs={"label_suffix": ""}
        )

    def save(self) -> Calendar | None:
        """Hand the form to the service; None if something in it is wrong, which its
        fields then tell."""
        if not (self.form.is_valid() & self.rows.is_valid()):
            return None
        values = {**self.form.cleaned_data, "windows": self.rows.windows()}
        try:
            if self.calendar is None:
                return calendar_create(values=values)
            return calendar_update(calendar_id=self.calendar.pk, values=values)
        except InvalidInput as error:
            self._show(error)
        return None

    def _show(self, error: InvalidInput) -> None:
        self.rows.add_errors(one for one in error.errors if _is_of_row(one))
        for one in error.errors:
            if not _is_of_row(one):
                field = one.path[0] if one.path[0] in FIELDS else None
                message = forms.ValidationError(one.message, one.code)
                self.form.add_error(field, message)


def _is_of_row(error: FieldError) -> bool:
    return error.path[0] == "windows" and len(error.path) > 1


def _rows(calendar: Calendar) -> list[dict[str, Any]]:
    return [
        {"original": window, **_row(window, calendar.timezone)}
        for window in calendar.windows
    ]


def _row(window: Mapping[str, Any], zone: str) -> dict[str, Any]:
    if "cron" in window:
        seconds = window["duration_seconds"]
        unit = next(size for size, _label in UNITS if seconds % int(size) == 0)
        lasts = seconds // int(unit)
        return {"cron": window["cron"], "lasts": lasts, "unit": unit}
    moments = {name: _wall(window[name], zone) for name in ("from", "until")}
    return {"begins_at": moments["from"], "ends_at": moments["until"]}


def _wall(text: str, zone: str) -> datetime:
    """A moment of a window on the wall clock of the calendar."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(zone_of(zone))
    return moment.replace(tzinfo=None)
