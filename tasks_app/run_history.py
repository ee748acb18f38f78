"""Reading runs, wherever they are: in the default database, or in the history.

The numbers come first, from the indexes alone; then the rows that are shown. Months
that have moved to the history database are read there; tasks, versions and workers are
in the default one, and are attached to its runs.

While the history database is away, lists have what the default one has, and say that
they do; what can only be there raises `HistoryAway`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError
from django.db.models import F, Max, QuerySet

from tasks_app.errors import HistoryAway
from tasks_app.ledger import searching
from tasks_app.ledger.archiving import HISTORY, is_configured
from tasks_app.ledger.searching import MAX_ID, Found, RunSearch
from tasks_app.models import ArchivedMonth, TaskRun, TaskVersion

__all__ = ["MAX_ID", "Found", "RunSearch"]

log = structlog.get_logger()


@contextmanager
def _asking_history() -> Iterator[None]:
    """Statements for the history database.

    Raises:
        HistoryAway: it does not answer.
    """
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        log.warning("history.away", error=str(error).strip())
        raise HistoryAway from error


# --- Pages ----------------------------------------------------------------------------
def search_down(search: RunSearch, *, before: int, limit: int) -> Found:
    """Up to `limit` runs with numbers below `before`, newest first."""
    found = searching.search_down(search, before=before, limit=limit)
    end = archived_end()
    reached = found.run_ids[-1] if len(found.run_ids) == limit else found.edge or 0
    if reached >= end:
        return found
    try:
        with _asking_history():
            older = searching.search_down(
                search, before=min(before, end), limit=limit, alias=HISTORY
            )
    except HistoryAway:
        return replace(found, is_history_away=True)
    edge = max((each.edge for each in (found, older) if each.edge), default=None)
    ids = {*found.run_ids, *older.run_ids}
    within = sorted((i for i in ids if i >= (edge or 0)), reverse=True)
    return Found(within[:limit], edge)


def search_up(search: RunSearch, *, after: int, limit: int) -> Found:
    """Up to `limit` runs with numbers above `after`, oldest first."""
    found = searching.search_up(search, after=after, limit=limit)
    if after >= archived_end():
        return found
    try:
        with _asking_history():
            older = searching.search_up(search, after=after, limit=limit, alias=HISTORY)
    except HistoryAway:
        return replace(found, is_history_away=True)
    edge = min((each.edge for each in (found, older) if each.edge), default=None)
    ids = {*found.run_ids, *older.run_ids}
    within = sorted(i for i in ids if i <= (edge or MAX_ID))
    return Found(within[:limit], edge)


def archived_end() -> int:
    """The first number that no archived run can have; 0 where none is archived."""
    if not is_configured():
        return 0
    return ArchivedMonth.objects.aggregate(end=Max("end_id"))["end"] or 0


def worker_ids(name: str) -> tuple[int, ...]:
    """The worker of a name: none, or one. By the run's own field, for tasks_app does
    not know workers_app."""
    return tuple(worker.pk for worker in _workers().filter(name=name))


def run_created_at(run_id: int) -> datetime | None:
    run = find(run_id)
    return run.created_at if run else None


# --- Rows -----------------------------------------------------------------------------
def runs_shown() -> QuerySet[TaskRun]:
    """Runs with all that their representations read.

    `max_attempts` is the pinned version's; the rest of the definition, which may be
    large, stays where it is.
    """
    return (
        TaskRun.objects.select_related("task__project", "version", "worker")
        .defer("version__definition", "task__payload", "task__command")
        .annotate(max_attempts=F("version__definition__max_attempts"))
    )


def runs_by_id(run_ids: Sequence[int]) -> list[TaskRun]:
    """The runs of these numbers, in their order; those that are gone are left out.

    Raises:
        HistoryAway: some can only be in the history, which does not answer.
    """
    found = runs_shown().in_bulk(run_ids)
    missing = [run_id for run_id in run_ids if run_id not in found]
    if missing and min(missing) < archived_end():
        with _asking_history():
            archived = TaskRun.objects.using(HISTORY).in_bulk(missing)
        attach(archived.values())
        found |= archived
    return [found[run_id] for run_id in run_ids if run_id in found]


def find(run_id: int, runs: QuerySet[TaskRun] | None = None) -> TaskRun | None:
    """A run, as `runs` gives it; one of the history always with all that is shown.

    Raises:
        HistoryAway: it can only be in the history, which does not answer.
    """
    found = (TaskRun.objects.all() if runs is None else runs).filter(pk=run_id).first()
    if found is None and run_id < archived_end():
        with _asking_history():
            found = TaskRun.objects.using(HISTORY).filter(pk=run_id).first()
        attach([found] if found else [])
    return found


def archived(runs: QuerySet[TaskRun]) -> list[TaskRun]:
    """What a query finds in the history, if there is one.

    Raises:
        HistoryAway: it does not answer.
    """
    if not archived_end():
        return []
    with _asking_history():
        found = list(runs.using(HISTORY))
    attach(found)
    return found


def database_of(run_id: int) -> str:
    """Where a run's events and output are."""
    if run_id < archived_end() and not TaskRun.objects.filter(pk=run_id).exists():
        return HISTORY
    return DEFAULT_DB_ALIAS


def is_archived(run: TaskRun) -> bool:
    return run._state.db == HISTORY


def attach(runs: Iterable[TaskRun]) -> None:
    """Give runs of the history their tasks, versions and workers."""
    runs = list(runs)
    versions = TaskVersion.objects.select_related("task__project").in_bulk(
        {run.version_id for run in runs}
    )
    workers = _workers().in_bulk({run.worker_id for run in runs if run.worker_id})
    for run in runs:
        run.version = versions[run.version_id]
        run.task = run.version.task
        run.worker = workers.get(run.worker_id)
        run.max_attempts = run.version.definition.get("max_attempts", 1)  # type: ignore[attr-defined]


def _workers() -> QuerySet[Any]:
    model: Any = TaskRun._meta.get_field("worker").related_model
    workers: QuerySet[Any] = model.objects.all()
    return workers
