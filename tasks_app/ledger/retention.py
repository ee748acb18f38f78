"""How long runs are kept, and their removal: months as a whole, else in small batches.

The age of a run is that of the day its number carries; on SQLite, that of its creation.
An unfinished run is never removed, nor any of the workflow that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from tasks_app.ledger.dialects import as_json, as_stored, database_now, dialect, fetch
from tasks_app.ledger.partitions import DEFAULT, RUNS, Partition, drop, partitions
from tasks_app.ledger.pruning import these
from tasks_app.rules.run_ids import first_id

BATCH = 1000
"""Runs that one transaction removes; tasks that one statement reads."""
MONTH = 31
"""Days that runs may lie longer than asked where their whole month is about to go."""

_TASKS = "tasks_app_task t JOIN tasks_app_project p ON p.id = t.project_id"
_DAYS = "COALESCE(t.retention_days, p.retention_days, %s)"
_UNFINISHED = "status IN ('queued', 'running')"


@dataclass(frozen=True, slots=True)
class Rule:
    """A task whose runs are removed some time: those of days before `first_day`."""

    task_id: int
    task: str
    days: int
    first_day: date


def rules(where: str = "true", *params: Any) -> Iterator[Rule]:
    """Those of all tasks, deleted ones too, but for tasks that keep runs for ever; or
    of the tasks `t` that meet a condition. Read BATCH at a time: there may be many.
    """
    today, after = database_now().date(), 0
    while True:
        rows = fetch(
            f"""
            SELECT t.id, t.name, {_DAYS} FROM {_TASKS}
            WHERE {_DAYS} > 0 AND ({where}) AND t.id > %s ORDER BY t.id LIMIT {BATCH}
            """,
            *(settings.RETENTION_DAYS, settings.RETENTION_DAYS, *params, after),
        )
        for task_id, name, days in rows:
            yield Rule(task_id, name, days, today - timedelta(days=days))
        if len(rows) < BATCH:
            return
        after = rows[-1][0]


def _shortest() -> int | None:
    """The days that those tasks keep their runs that keep them the shortest; None if
    all keep them for ever."""
    ((days,),) = fetch(
        f"SELECT MIN({_DAYS}) FROM {_TASKS} WHERE {_DAYS} > 0",
        *(settings.RETENTION_DAYS, settings.RETENTION_DAYS),
    )
    return None if days is None else int(days)


# --- whole months ---------------------------------------------------------------------
def due_months() -> list[Partition]:
    """The partitions that may go: every task with a run in them keeps none so old."""
    shortest = _shortest()
    if shortest is None:
        return []
    return [
        partition
        for partition in partitions()
        if (age := _age(partition)) is not None
        and age >= shortest
        and not _is_kept(partition, age)
    ]


def _age(partition: Partition) -> int | None:
    """The days since its last one; None of one that has no last one."""
    if partition.end is None:
        return None
    return (database_now().date() - partition.end).days


def _is_kept(partition: Partition, age: int) -> bool:
    return bool(
        fetch(
            f"""
            SELECT 1 FROM {_TASKS} WHERE ({_DAYS} = 0 OR {_DAYS} > %s)
            AND EXISTS (SELECT 1 FROM {partition.leaves[RUNS]} r
                WHERE r.task_id = t.id) LIMIT 1
            """,
            *(settings.RETENTION_DAYS, settings.RETENTION_DAYS, age),
        )
    )


def drop_month(partition: Partition) -> bool:
    """Drop a partition that is due; False if it has unfinished runs, or somebody holds
    the tables for longer: the next time may do better."""
    age = _age(partition)
    if age is None or partition.end is None:
        return False
    where = f"{_DAYS} BETWEEN 1 AND %s"
    # Before, and not with the drop, whose locks everybody waits for.
    _note_starts(partition.end, where, settings.RETENTION_DAYS, age)
    return drop(partition)


def _note_starts(day: date, where: str, *params: Any) -> None:
    fetch(
        f"""
        INSERT INTO tasks_app_historystart (task_id, day)
        SELECT t.id, %s FROM {_TASKS} WHERE {where}
        ON CONFLICT (task_id) DO UPDATE SET day = excluded.day
        WHERE tasks_app_historystart.day < excluded.day
        """,
        day.isoformat(),
        *params,
    )


# --- single runs ----------------------------------------------------------------------
def rules_in_batches() -> Iterator[Rule]:
    """The tasks of which old runs do not go with a month: those that keep theirs for
    clearly shorter than others, and whoever has runs in the default partition."""
    if connection.vendor != "postgresql":
        return rules()
    ((everyone, longest),) = fetch(
        f"SELECT MIN({_DAYS}), MAX({_DAYS}) FROM {_TASKS}",
        *(settings.RETENTION_DAYS, settings.RETENTION_DAYS),
    )
    if everyone == 0:
        return rules()
    return rules(
        f"{_DAYS} + {MONTH} < %s"
        f" OR t.id IN (SELECT DISTINCT task_id FROM {RUNS}_{DEFAULT})",
        *(settings.RETENTION_DAYS, longest),
    )


def unfinished_roots() -> frozenset[int]:
    """The workflows that have not ended, among those that may have old runs. Read once
    before removing: an old workflow that has ended does not begin anew."""
    days = _shortest()
    if days is None:
        return frozenset()
    newest = database_now().date() - timedelta(days=days)
    rows = fetch(
        f"SELECT DISTINCT COALESCE(root_id, id) FROM {RUNS}"
        f" WHERE {_UNFINISHED} {_before(newest)}"
    )
    return frozenset(row[0] for row in rows)


def _before(day: date) -> str:
    if connection.vendor != "postgresql":
        return ""
    return f"AND id < {first_id(day)}"


def count_old(rule: Rule) -> int:
    """About how many runs of a task would be removed."""
    ((count,),) = fetch(
        f"SELECT count(*) FROM {RUNS} WHERE task_id = %s AND created_at < %s"
        f" AND NOT ({_UNFINISHED}) {_before(rule.first_day)}",
        rule.task_id,
        as_stored(_midnight(rule.first_day)),
    )
    return int(count)


def remove_all_old(batched: Iterable[Rule]) -> Iterator[tuple[Rule, int]]:
    """Remove the old runs of these tasks, as `remove_old` does; yields whose and how
    many."""
    held_roots = unfinished_roots()
    for rule in batched:
        for count in remove_old(rule, held_roots):
            yield rule, count


def remove_old(rule: Rule, held_roots: frozenset[int]) -> Iterator[int]:
    """Remove the old runs of a task with their events and logs, but for workflows that
    have not ended; yields how many, batch by batch. It may be left off after each."""
    after = 0
    while True:
        with transaction.atomic():
            window = _window(rule, after)
            ids = [
                run_id
                for run_id, root_id, is_old, has_ended in window
                if is_old and has_ended and root_id not in held_roots
            ]
            _remove(rule, ids)
        if ids:
            yield len(ids)
        if len(window) < BATCH or not _goes_on(window):
            return
        after = window[-1][0]


def _goes_on(window: Sequence[tuple[Any, ...]]) -> bool:
    """Whether older runs may follow: where numbers go by creation, not after a run
    that is young enough."""
    return connection.vendor == "postgresql" or bool(window[-1][2])


def _window(rule: Rule, after: int) -> list[tuple[Any, ...]]:
    """The next runs of a task: number, root, whether it is old, and has ended."""
    return fetch(
        f"""
        SELECT id, COALESCE(root_id, id), created_at < %s, NOT ({_UNFINISHED})
        FROM {RUNS} WHERE task_id = %s AND id > %s {_before(rule.first_day)}
        ORDER BY id LIMIT {BATCH}
        """,
        as_stored(_midnight(rule.first_day)),
        rule.task_id,
        after,
    )


def _remove(rule: Rule, run_ids: Sequence[int]) -> None:
    if not run_ids:
        return
    _note_starts(rule.first_day, "t.id = %s", rule.task_id)
    ids, given = dialect().ids(), as_json(run_ids)
    for table in ("tasks_app_runlog", "tasks_app_runevent"):
        fetch(
            f"DELETE FROM {table} WHERE run_id IN ({ids}) {these(run_ids, 'run_id')}",
            given,
        )
    fetch(f"DELETE FROM {RUNS} WHERE id IN ({ids}) {these(run_ids)}", given)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
