"""Blackout calendars: define, change, delete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from tasks_app.errors import CalendarInUse, FieldError, InvalidInput
from tasks_app.models import Calendar, Project, Task
from tasks_app.rules.blackout import WindowsInvalid, parse_windows
from tasks_app.rules.schedules import ScheduleInvalid

NAMES_SHOWN = 5


@transaction.atomic
def calendar_create(*, values: Mapping[str, Any]) -> Calendar:
    """Define a calendar. `values` are fields of Calendar by name.

    Raises:
        InvalidInput: each wrong field, with its reason.
    """
    return _save(Calendar(), values)


@transaction.atomic
def calendar_update(*, calendar_id: int, values: Mapping[str, Any]) -> Calendar:
    """Change a calendar. Fires that are planned from then on see the change; runs that
    were postponed already keep their time.

    Raises:
        InvalidInput: each wrong field, with its reason.
    """
    return _save(Calendar.objects.select_for_update().get(pk=calendar_id), values)


@transaction.atomic
def calendar_delete(*, calendar_id: int) -> None:
    """Delete a calendar that nothing uses.

    Raises:
        CalendarInUse: tasks or projects have it; names them.
    """
    calendar = Calendar.objects.select_for_update().get(pk=calendar_id)
    tasks = Task.objects.existing().filter(calendars=calendar)
    users = [
        *_users("task", list(tasks.values_list("name", flat=True))),
        *_users(
            "project",
            list(
                Project.objects.filter(calendars=calendar).values_list(
                    "name", flat=True
                )
            ),
        ),
    ]
    if users:
        raise CalendarInUse(
            f"{' and '.join(users)} have this calendar: take it from them first."
        )
    calendar.delete()


def _users(noun: str, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(sorted(names)[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return [f"{noun}s {shown}" + (f" and {more} more" if more > 0 else "")]


def _save(calendar: Calendar, values: Mapping[str, Any]) -> Calendar:
    for name, value in values.items():
        setattr(calendar, name, value)
    if errors := [*_field_errors(calendar), *_window_errors(calendar)]:
        raise InvalidInput(errors)
    try:
        with transaction.atomic():
            calendar.save()
    except IntegrityError as error:  # another request took the name since the check
        message = "there is a calendar of this name"
        raise InvalidInput.of("name", "name_taken", message) from error
    return calendar


def _field_errors(calendar: Calendar) -> list[FieldError]:
    if re.fullmatch("[0-9]+", calendar.name):
        message = "a name of digits only would read as an id; add a letter"
        return [FieldError(("name",), "numeric_name", message)]
    try:
        calendar.full_clean(exclude=["windows"])
    except ValidationError as error:
        return [
            FieldError(
                (name,),
                "name_taken" if detail.code == "unique" else str(detail.code),
                text,
            )
            for name, details in error.error_dict.items()
            for detail in details
            for text in detail.messages
        ]
    return []


def _window_errors(calendar: Calendar) -> list[FieldError]:
    try:
        parse_windows(calendar.windows, calendar.timezone)
    except ScheduleInvalid as error:
        return [FieldError((error.field,), error.code, error.message)]
    except WindowsInvalid as error:
        return [
            FieldError(("windows", *problem.path), problem.code, problem.message)
            for problem in error.problems
        ]
    return []
