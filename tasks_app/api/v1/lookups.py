"""Finding what a path or a body names; what is not there is a 404."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.db.models import F, OuterRef, Prefetch, QuerySet, Subquery
from rest_framework.exceptions import NotFound

from tasks_app.api.exceptions import AmbiguousName
from tasks_app.api.fields import MAX_ID
from tasks_app.models import Task, TaskDependency, TaskRun

MAX_NAME_LENGTH = 200
LAST_RUN_FIELDS = (
    "status",
    "trigger",
    "scheduled_for",
    "started_at",
    "completed_at",
    "exit_code",
)


def id_of(text: str) -> int | None:
    """The id that a text is, if it is one: ASCII digits, within 64 bits."""
    if re.fullmatch("[0-9]{1,19}", text) and int(text) <= MAX_ID:
        return int(text)
    return None


def is_numeric(text: str) -> bool:
    """Whether a reference reads as an id and never as a name."""
    return re.fullmatch("[0-9]+", text) is not None


def tasks_shown() -> QuerySet[Task]:
    """Tasks with all that their representation reads but the last run."""
    newest = TaskRun.objects.filter(task=OuterRef("pk")).order_by("-pk")
    return (
        Task.objects.existing()
        .select_related(
            "project",
            "schedule__crontab",
            "schedule__interval",
            "schedule__clocked",
        )
        .prefetch_related(
            Prefetch("parent_edges", TaskDependency.objects.select_related("parent"))
        )
        .annotate(last_run_id=Subquery(newest.values("pk")[:1]))
    )


def with_last_runs(tasks: Iterable[Task]) -> list[Task]:
    """Tasks of `tasks_shown`, each with its `last_run`: one statement for all."""
    tasks = list(tasks)
    ids = {task.pk: getattr(task, "last_run_id", None) for task in tasks}
    runs = TaskRun.objects.only(*LAST_RUN_FIELDS).in_bulk(filter(None, ids.values()))
    for task in tasks:
        task.last_run = runs.get(ids[task.pk])  # type: ignore[attr-defined]
    return tasks


def find_task(reference: str, project: str | None = None) -> Task:
    """The task of an id, or of a name, which is unique in its project.

    Raises:
        NotFound: there is none.
        AmbiguousName: several projects have a task of this name.
    """
    tasks = tasks_shown()
    if project is not None:
        tasks = tasks.filter(project__name=project)
    if is_numeric(reference):
        pk = id_of(reference)
        found = list(tasks.filter(pk=pk)) if pk else []
    else:
        found = list(tasks.filter(name=reference)[:2])
    if not found:
        raise NotFound("There is no such task.")
    if len(found) > 1:
        raise AmbiguousName
    return found[0]


def runs_shown() -> QuerySet[TaskRun]:
    """Runs with all that their representation reads.

    `max_attempts` is the pinned version's; the rest of the definition, which may be
    large, stays where it is.
    """
    return (
        TaskRun.objects.select_related("task__project", "version", "worker")
        .defer("version__definition", "task__payload", "task__command")
        .annotate(max_attempts=F("version__definition__max_attempts"))
    )


def find_run(reference: str, runs: QuerySet[TaskRun] | None = None) -> TaskRun:
    """The run of an id.

    Raises:
        NotFound: there is none.
    """
    return find_row(reference, runs_shown() if runs is None else runs, "run")


def find_row(reference: str, rows: QuerySet[TaskRun], noun: str) -> TaskRun:
    pk = id_of(reference)
    row = rows.filter(pk=pk).first() if pk else None
    if row is None:
        raise NotFound(f"There is no such {noun}.")
    return row
