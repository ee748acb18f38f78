"""Projects: the limits and blackouts that their tasks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from tasks_app import ledger
from tasks_app.errors import FieldError, InvalidInput
from tasks_app.models import Project, Task

_API_PATHS = {
    "rate_limit_runs": ("rate_limit", "runs"),
    "rate_limit_seconds": ("rate_limit", "per_seconds"),
}


@transaction.atomic
def project_update(*, project_id: int, values: Mapping[str, Any]) -> Project:
    """Change a project. `values` are fields of Project by name; `calendars` (of
    Calendar) may be among them. A changed rate limit applies to runs that wait, too.

    Raises:
        InvalidInput: each wrong field, with its reason.
    """
    # Tasks before their project, the order in which admission locks them.
    tasks = Task.objects.existing().filter(project=project_id).order_by("pk")
    task_ids = [task.pk for task in tasks.select_for_update(no_key=True).only("pk")]
    project = Project.objects.select_for_update(no_key=True).get(pk=project_id)
    before = (project.rate_limit_runs, project.rate_limit_seconds)
    for name, value in values.items():
        if name != "calendars":
            setattr(project, name, value)
    _check(project)
    project.save()
    if "calendars" in values:
        project.calendars.set(values["calendars"])
    if (project.rate_limit_runs, project.rate_limit_seconds) != before:
        ledger.hold(task_ids)
    return project


def _check(project: Project) -> None:
    try:
        project.full_clean()
    except ValidationError as error:
        raise InvalidInput(
            [
                FieldError(_API_PATHS.get(name, (name,)), str(detail.code), text)
                for name, details in error.error_dict.items()
                for detail in details
                for text in detail.messages
            ]
        ) from error
