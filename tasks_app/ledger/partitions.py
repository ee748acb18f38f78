"""The months that runs, their events and their logs are kept in, on PostgreSQL.

Each of the three tables is partitioned by the number of the run, which carries a day
(tasks_app/rules/run_ids.py). A month is made ahead, and dropped as a whole. What
belongs to no month that has been made is kept in the default partition. SQLite has
none of this: there the list is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import structlog
from django.db import DatabaseError, connection, transaction

from tasks_app.ledger.dialects import database_now, fetch
from tasks_app.rules.run_ids import day_of, first_id

RUNS = "tasks_app_taskrun"
TABLES = {RUNS: "id", "tasks_app_runevent": "run_id", "tasks_app_runlog": "run_id"}
"""The partitioned tables, and the column by which they are."""
MONTHS_AHEAD = 2
"""Beside the month that it is."""
DEFAULT = "default"
LOCK_MILLISECONDS = 500
"""So long a change of partitions waits for its locks, and others behind it. Less than
PostgreSQL's deadlock_timeout: of two that wait for each other, this one gives up."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of each table. `begin` is its first day, `end` the day after its
    last; None where it is open. `rows` are its runs as the planner estimates them,
    `bytes` is what runs, events and logs take with their indexes."""

    name: str
    begin: date | None
    end: date | None
    rows: int
    bytes: int

    @property
    def leaves(self) -> dict[str, str]:
        """Its tables, by the tables that they are partitions of."""
        return {table: f"{table}_{self.name}" for table in TABLES}


def partitions() -> list[Partition]:
    """All partitions, the oldest first, and the default one at the end."""
    if connection.vendor != "postgresql":
        return []
    name = f"substr(c.relname, {len(RUNS) + 2})"
    size = " + ".join(
        f"pg_total_relation_size(to_regclass('{table}_' || {name}))" for table in TABLES
    )
    rows = fetch(
        f"""
        SELECT {name}, pg_get_expr(c.relpartbound, c.oid),
            GREATEST(c.reltuples, 0)::bigint, {size}
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '{RUNS}'::regclass
        """
    )
    found = [
        Partition(name, *_bounds(bound), rows, size) for name, bound, rows, size in rows
    ]
    return sorted(found, key=lambda each: (each.end is None, each.end))


def _bounds(text: str) -> tuple[date | None, date | None]:
    """The days of `FOR VALUES FROM (MINVALUE) TO ('2612010000000000')`."""
    found = re.findall(r"\('?(\w+)'?\)", text)
    begin, end = (
        day_of(int(bound)) if bound.isdigit() else None for bound in found or ("", "")
    )
    return begin, end


def create_ahead() -> list[str]:
    """Make the partitions of this month and of the next MONTHS_AHEAD that are missing.

    What cannot be made now, because somebody holds the tables for longer, is left to
    the next time. Returns the names of the new ones.
    """
    there = partitions()
    if not there:
        return []
    today = database_now().date()
    return [
        name
        for begin, end in pairwise(_months(today, MONTHS_AHEAD + 2))
        if not any(_covers(partition, begin) for partition in there)
        and _create(name := f"{begin:%Y%m}", begin, end)
    ]


def _covers(partition: Partition, day: date) -> bool:
    return partition.end is not None and (
        (partition.begin or date.min) <= day < partition.end
    )


def _months(day: date, count: int) -> Iterator[date]:
    """The first days of so many months, from that of `day` on."""
    for months in range(day.month - 1, day.month - 1 + count):
        yield date(day.year + months // 12, months % 12 + 1, 1)


def _create(name: str, begin: date, end: date) -> bool:
    """Make one partition of each table; False if that has to wait.

    Built aside and attached, which does not stop readers and writers of the others.
    """
    span = first_id(begin), first_id(end)
    try:
        with transaction.atomic():
            fetch(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            if _strays(*span):
                log.warning("partition.default_is_in_use", partition=name)
                return False
            for table in TABLES:
                _attach(table, name, *span)
    except DatabaseError as error:
        log.warning("partition.not_created", partition=name, error=str(error).strip())
        return False
    log.info("partition.created", partition=name)
    return True


def _strays(first: int, end: int) -> bool:
    """Whether the default partition holds unfinished runs of this span. They stay
    until they have ended: who is about to change one must find it where it was."""
    for table in TABLES:
        fetch(f"LOCK TABLE {table}_{DEFAULT} IN ACCESS EXCLUSIVE MODE")
    return bool(
        fetch(
            f"""
            SELECT 1 FROM {RUNS}_{DEFAULT} WHERE id >= %s AND id < %s
            AND status IN ('queued', 'running') LIMIT 1
            """,
            first,
            end,
        )
    )


def _attach(table: str, name: str, first: int, end: int) -> None:
    leaf, key = f"{table}_{name}", TABLES[table]
    fetch(f"CREATE TABLE {leaf} (LIKE {table}_{DEFAULT} INCLUDING ALL)")
    fetch(
        f"""
        WITH moved AS (
            DELETE FROM {table}_{DEFAULT} WHERE {key} >= %s AND {key} < %s RETURNING *)
        INSERT INTO {leaf} SELECT * FROM moved
        """,
        first,
        end,
    )
    bounds = f"FOR VALUES FROM ({first}) TO ({end})"
    fetch(f"ALTER TABLE {table} ATTACH PARTITION {leaf} {bounds}")


def drop(partition: Partition) -> bool:
    """Drop a partition with all that is in it, in a time that does not depend on how
    much that is; False if it has unfinished runs, or that has to wait.
    """
    try:
        with transaction.atomic():
            # Sends autovacuum away, which yields after a second; others do not notice.
            fetch("SET LOCAL lock_timeout = '5s'")
            for leaf in partition.leaves.values():
                fetch(f"LOCK TABLE {leaf} IN SHARE UPDATE EXCLUSIVE MODE")
            fetch(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            # As a drop does, but before the look whether it may.
            for table in TABLES:
                fetch(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
            if not is_settled(partition):
                return False
            for leaf in reversed(partition.leaves.values()):
                fetch(f"DROP TABLE {leaf}")
    except DatabaseError as error:
        log.warning(
            "partition.not_dropped", partition=partition.name, error=str(error).strip()
        )
        return False
    log.info("partition.dropped", partition=partition.name, rows=partition.rows)
    return True


def is_settled(partition: Partition) -> bool:
    """Whether every run of a partition has ended; their workflows have with them, for
    a workflow's runs are all of its root's day."""
    return not fetch(
        f"SELECT 1 FROM {partition.leaves[RUNS]}"
        " WHERE status IN ('queued', 'running') LIMIT 1"
    )
