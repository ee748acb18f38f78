"""The page that makes up for fires of the past that did not run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks_app import ledger
from tasks_app.admin.schedule_form import LocalDateTime
from tasks_app.errors import InvalidInput, TooManyQueuedRuns
from tasks_app.formats import zone_of
from tasks_app.models import Task
from tasks_app.services.backfill import (
    Backfill,
    BackfillInput,
    backfill_create,
    backfill_preview,
)

FIRES_SHOWN = 5
FIELDS = {"from": "start", "to": "end"}
"""The service's fields, and the form's."""


class BackfillForm(forms.Form):
    """The span, on the wall clock of the task's zone, and how."""

    start = LocalDateTime(label=gettext_lazy("From"))
    end = LocalDateTime(label=gettext_lazy("Until just before"))
    is_newest_first = forms.BooleanField(
        required=False, label=gettext_lazy("The newest first")
    )
    with_blackouts = forms.BooleanField(
        required=False, label=gettext_lazy("Also within blackouts")
    )

    def given(self, zone: ZoneInfo) -> BackfillInput:
        chosen = self.cleaned_data
        return BackfillInput(
            chosen["start"].replace(tzinfo=zone),
            chosen["end"].replace(tzinfo=zone),
            is_newest_first=chosen["is_newest_first"],
            with_blackouts=chosen["with_blackouts"],
        )


class BackfillEditor:
    """A task's backfill: what it would run, and, once it is created, what it runs."""

    def __init__(self, task: Task, data: QueryDict | None) -> None:
        self.task = task
        self.zone = zone_of(task.timezone)
        self.form = BackfillForm(
            data or None, initial=self._last_day(), label_suffix=""
        )

    def preview(self) -> Backfill | None:
        """What it would run; None if nothing is asked yet, or something is wrong."""
        if not self.form.is_valid():
            return None
        try:
            return backfill_preview(
                task_id=self.task.pk, given=self.form.given(self.zone)
            )
        except InvalidInput as error:
            self._show(error)
        return None

    def create(self, actor: str) -> Backfill | None:
        """Create the runs; None if something is wrong, which the form then tells."""
        if not self.form.is_valid():
            return None
        try:
            return backfill_create(
                task_id=self.task.pk, given=self.form.given(self.zone), actor=actor
            )
        except InvalidInput as error:
            self._show(error)
        except TooManyQueuedRuns as error:
            self.form.add_error(None, str(error))
        return None

    def _show(self, error: InvalidInput) -> None:
        for one in error.errors:
            field = FIELDS.get(one.path[0])
            self.form.add_error(field, forms.ValidationError(one.message, one.code))

    def _last_day(self) -> dict[str, Any]:
        end = ledger.database_now().astimezone(self.zone)
        end = end.replace(tzinfo=None, second=0, microsecond=0)
        return {"start": end - timedelta(days=1), "end": end}


def backfill_page(editor: BackfillEditor, found: Backfill | None) -> dict[str, Any]:
    return {
        "title": _("Backfill %s") % editor.task.name,
        "task": editor.task,
        "form": editor.form,
        "found": found,
        "first": found.fires[:FIRES_SHOWN] if found else [],
        "last": found.fires[FIRES_SHOWN:][-FIRES_SHOWN:] if found else [],
        "between": max(len(found.fires) - 2 * FIRES_SHOWN, 0) if found else 0,
    }
