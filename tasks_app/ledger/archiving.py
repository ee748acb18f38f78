"""Moves months of finished runs to the history database, whole.

The steps, each of which may be the last one before the process is killed, and is found
done or is done anew by the next call:

1. Copy: each table of the month, in one transaction of the history database.
2. Hand over: in one transaction of the default database, the month stops being a
   partition there, and its row says that the history database has it. From now on
   readers look there.
3. Compare: what was left aside is row by row what the copy is, or is copied again: a
   late event may have come in between.
4. Drop what was left aside.

A run is always in one place that readers know, and never in two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db import connection, connections, transaction

from tasks_app.errors import Conflict
from tasks_app.ledger.dialects import database_now, fetch
from tasks_app.ledger.partitions import (
    LOCK_MILLISECONDS,
    RUNS,
    TABLES,
    Partition,
    is_settled,
    partitions,
)
from tasks_app.models import ArchivedMonth
from tasks_app.rules.run_ids import first_id

HISTORY = "history"
COPY_BYTES = 1024 * 1024
Tell = Callable[[str], None]


class HistoryChanges(Conflict):
    """The history database has no such tables as this one: `migrate --database
    history`, with the version that runs here."""

    code = "history_not_migrated"


@dataclass(frozen=True, slots=True)
class Moved:
    """A month that has moved: its runs, events and chunks of output."""

    name: str
    rows: dict[str, int]


def is_configured() -> bool:
    return HISTORY in connections.databases


def archivable(before: date) -> list[Partition]:
    """The months that have ended by `before`, and all of whose runs have: oldest
    first."""
    return [
        partition
        for partition in partitions()
        if partition.end is not None and partition.end <= before
        if is_settled(partition)
    ]


def left_over() -> list[ArchivedMonth]:
    """Months whose move was interrupted after they had been handed over."""
    return list(ArchivedMonth.objects.filter(is_done=False))


def archive(partition: Partition, tell: Tell) -> Moved | None:
    """Move a month. None if that has to wait: a run in it has not ended, or somebody
    holds the tables."""
    _drop_foreign_keys()
    _drop_made_ahead()
    for table in TABLES:
        if not _has_copy(table, partition.name):
            tell(f"{partition.name}: copying {table.removeprefix('tasks_app_')}")
            _copy(table, partition.name, _span(partition))
    note_starts(partition)
    month = _hand_over(partition)
    return None if month is None else finish_archive(month, tell)


def note_starts(partition: Partition) -> None:
    """What looks at fires in this database alone is to expect none of before."""
    assert partition.end is not None  # noqa: S101 - archivable ones have an end
    fetch(
        """
        INSERT INTO tasks_app_historystart (task_id, day)
        SELECT id, %s FROM tasks_app_task WHERE true
        ON CONFLICT (task_id) DO UPDATE SET day = excluded.day
        WHERE tasks_app_historystart.day < excluded.day
        """,
        partition.end.isoformat(),
    )


def finish_archive(month: ArchivedMonth, tell: Tell) -> Moved:
    """Compare what was left aside with its copy, and drop it."""
    rows: dict[str, int] = {}
    for table in TABLES:
        leaf = f"{table}_{month.name}"
        if not _exists(connection, leaf):  # dropped before an interruption
            continue
        kept, copied = (_sum(each, leaf) for each in (connection, _history()))
        if kept != copied:
            tell(f"{month.name}: {leaf} has changed, copying it again")
            _copy(table, month.name, (month.first_id, month.end_id))
            if _sum(_history(), leaf) != kept:
                raise HistoryChanges(f"the copy of {leaf} differs from it")
        rows[table] = int(kept[0])
        fetch(f"DROP TABLE {leaf}")
    month.is_done = True
    month.save(update_fields=["is_done"])
    tell(f"{month.name}: {month.runs:,} runs are in the history database")
    return Moved(month.name, rows)


def _span(partition: Partition) -> tuple[int, int]:
    assert partition.end is not None  # noqa: S101 - archivable ones have an end
    return first_id(partition.begin) if partition.begin else 0, first_id(partition.end)


def _history() -> Any:
    return connections[HISTORY]


def _run(sql: str) -> None:
    with _history().cursor() as cursor:
        cursor.execute(sql)


def _drop_foreign_keys() -> None:
    """There, tasks, versions and workers are not, and runs name those of the default
    database."""
    for table in TABLES:
        with _history().cursor() as cursor:
            cursor.execute(
                "SELECT conname FROM pg_constraint WHERE contype = 'f'"
                " AND conparentid = 0 AND conrelid = to_regclass(%s)",
                [table],
            )
            names = [name for (name,) in cursor.fetchall()]
        for name in names:
            _run(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')


def _exists(database: Any, leaf: str) -> bool:
    with database.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [leaf])
        return bool(cursor.fetchone()[0])


def _has_copy(table: str, name: str) -> bool:
    return _exists(_history(), f"{table}_{name}")


def _copy(table: str, name: str, span: tuple[int, int]) -> None:
    """Put the month's table into the history database, in the place of an earlier copy,
    in one transaction.

    Raises:
        HistoryChanges: the tables differ.
    """
    leaf = f"{table}_{name}"
    columns = _columns(connection, leaf)
    if sorted(columns) != sorted(_columns(_history(), table)):
        raise HistoryChanges
    with transaction.atomic(using=HISTORY):
        _run(f"DROP TABLE IF EXISTS {leaf}")
        _run(f"CREATE TABLE {leaf} (LIKE {table}_default INCLUDING ALL)")
        named = ", ".join(f'"{column}"' for column in columns)
        _stream(
            f"COPY (SELECT {named} FROM {leaf}) TO STDOUT (FORMAT binary)",
            f"COPY {leaf} ({named}) FROM STDIN (FORMAT binary)",
        )
        _run(
            f"ALTER TABLE {table} ATTACH PARTITION {leaf}"
            f" FOR VALUES FROM ({span[0]}) TO ({span[1]})"
        )


def _drop_made_ahead() -> None:
    """Drop the empty partitions that migrations have made there: an older month may be
    within the bounds of one."""
    kept = ArchivedMonth.objects.values_list("name", flat=True)
    for table in TABLES:
        with _history().cursor() as cursor:
            cursor.execute(
                """
                SELECT c.relname FROM pg_inherits i
                JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = to_regclass(%s)
                AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
                AND NOT c.relname = ANY(%s)
                """,
                [table, [f"{table}_{name}" for name in kept]],
            )
            for (leaf,) in cursor.fetchall():
                cursor.execute(f"SELECT 1 FROM {leaf} LIMIT 1")
                if cursor.fetchone() is None:
                    cursor.execute(f"DROP TABLE {leaf}")


def _columns(database: Any, table: str) -> list[str]:
    with database.cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s)"
            " AND attnum > 0 AND NOT attisdropped ORDER BY attname",
            [table],
        )
        return [name for (name,) in cursor.fetchall()]


def _stream(source: str, sink: str) -> None:
    """Everything that one COPY gives goes into the other."""
    with (
        connection.cursor() as reader,
        _history().cursor() as writer,
        reader.cursor.copy(source) as taken,
        writer.cursor.copy(sink) as given,
    ):
        for block in taken:
            given.write(block)


def _sum(database: Any, leaf: str) -> tuple[Any, ...]:
    """How many rows there are, and a sum over their contents."""
    named = ", ".join(f'"{column}"' for column in _columns(database, leaf))
    with database.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*), COALESCE(SUM(hashtextextended(ROW({named})::text, 0)"
            f"::numeric), 0) FROM {leaf}"
        )
        found: tuple[Any, ...] = cursor.fetchone()
        return found


def _hand_over(partition: Partition) -> ArchivedMonth | None:
    """One transaction, as short as a drop. None if a run has not ended."""
    first, end = _span(partition)
    with transaction.atomic():
        fetch(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        for table in TABLES:
            fetch(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
        if not is_settled(partition):
            return None
        for table, leaf in partition.leaves.items():
            fetch(f"ALTER TABLE {table} DETACH PARTITION {leaf}")
        return ArchivedMonth.objects.create(
            name=partition.name,
            first_id=first,
            end_id=end,
            runs=_copied_runs(partition),
            archived_at=database_now(),
        )


def _copied_runs(partition: Partition) -> int:
    with _history().cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {RUNS}_{partition.name}")
        return int(cursor.fetchone()[0])
