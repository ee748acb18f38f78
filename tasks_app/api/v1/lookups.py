"""Finding what a path or a body names; what is not there is a 404."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from django.db.models import Prefetch, QuerySet
from rest_framework.exceptions import NotFound

from tasks_app.api.exceptions import AmbiguousName
from tasks_app.api.fields import MAX_ID
from tasks_app.ledger.searching import newest_of
from tasks_app.ledger.triggering import tasks_to_run
from tasks_app.models import Task, TaskDependency, TaskRun
from tasks_app.run_history import find, runs_shown

MAX_NAME_LENGTH = 200
T = TypeVar("T")
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
    return (
        Task.objects.existing()
        .select_related(
            "project",
            "schedule__crontab",
            "schedule__interval",
            "schedule__clocked",
        )
        .prefetch_related(
            Prefetch("parent_edges", TaskDependency.objects.select_related("parent")),
            "calendars",
        )
    )


def with_last_runs(tasks: Iterable[Task]) -> list[Task]:
    """Tasks of `tasks_shown`, each with its `last_run`: two statements for all."""
    tasks = list(tasks)
    newest = newest_of([task.pk for task in tasks], 1)
    ids = {task_id: run_ids[0] for task_id, run_ids in newest.items() if run_ids}
    runs = TaskRun.objects.only(*LAST_RUN_FIELDS).in_bulk(list(ids.values()))
    for task in tasks:
        task.last_run = runs.get(ids.get(task.pk, 0))  # type: ignore[attr-defined]
    return tasks


def find_task(
    reference: str,
    project: str | None = None,
    tasks: QuerySet[Task] | None = None,
) -> Task:
    """The task of an id, or of a name, which is unique in its project.

    `tasks` are those to look among: by default, of `tasks_shown`.

    Raises:
        NotFound: there is none.
        AmbiguousName: several projects have a task of this name.
    """
    tasks = tasks_shown() if tasks is None else tasks
    if project is not None:
        tasks = tasks.filter(project__name=project)
    if is_numeric(reference):
        pk = id_of(reference)
        found = list(tasks.filter(pk=pk)) if pk else []
    else:
        found = list(tasks.filter(name=reference)[:2])
    return _only(found)


def _only(found: Sequence[T]) -> T:
    if not found:
        raise NotFound("There is no such task.")
    if len(found) > 1:
        raise AmbiguousName
    return found[0]


def find_to_run(reference: str, project: str | None = None) -> tuple[Task, int]:
    """The task, as `find_task`, with what a trigger and its answer read of it; and the
    id of its current version."""
    if not is_numeric(reference):
        return _only(tasks_to_run(name=reference, project=project))
    pk = id_of(reference)
    return _only(tasks_to_run(pk=pk, project=project) if pk else [])


def find_run(reference: str, runs: QuerySet[TaskRun] | None = None) -> TaskRun:
    """The run of an id, in the default database or in the history.

    Raises:
        NotFound: there is none.
    """
    pk = id_of(reference)
    run = find(pk, runs_shown() if runs is None else runs) if pk else None
    if run is None:
        raise NotFound("There is no such run.")
    return run
