"""Which days' runs a statement is about, so that PostgreSQL opens no other partition.

A statement that does not say so is planned for every partition, and locks them all:
with fifteen of them that costs more than the statement's work. The conditions are
literals, for a parameter would prune only after planning, and whole days, so that the
text of a statement stays the same. SQLite has one table, and needs none of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from django.db import connection

from tasks_app.ledger.dialects import database_now, dialect, fetch
from tasks_app.rules.run_ids import days_span, first_id

KEPT_SECONDS = 60.0
"""So long a process goes by the days of unfinished runs that it has read."""
DAYS_BEFORE, DAYS_AHEAD = 3, 2
"""Days around today that count as read whatever was found: fires that are planned
late are seen at once by every process if they are no older."""


class _Unfinished:
    """The days of the unfinished runs, as this process knows them."""

    span: tuple[int, int] = (0, 0)
    read_at: float | None = None


def among(run_ids: Sequence[int], column: str = "id") -> str:
    """`AND ...`: met by these runs, and by those that have one of them as their root.

    `column` is the column with the run's id. Empty where there is nothing to prune.
    """
    if not run_ids or connection.vendor != "postgresql":
        return ""
    return _within(column, *days_span(run_ids))


def these(run_ids: Sequence[int], column: str = "id") -> str:
    """`AND ...`: met by these runs alone, each looked up by the index.

    For statements whose runs are all known. Their days would do to prune, but with a
    range of ids beside a join PostgreSQL reads the whole range: it believes that a day
    of which it has no statistics yet holds one run. Empty where there is nothing to
    prune.
    """
    if not run_ids or connection.vendor != "postgresql":
        return ""
    ids = ",".join(str(int(run_id)) for run_id in run_ids)
    return f"AND {column} = ANY ('{{{ids}}}'::bigint[])"


def looked_up(query: str, run_ids: Sequence[int], column: str = "id") -> str:
    """`AND ...`: met by the runs that a small query finds, which are `run_ids`, each
    looked up by the index.

    As `these`, for statements whose plan is kept: the text is the same for all runs of
    the days of unfinished ones. Empty where there is nothing to prune.
    """
    if not run_ids or connection.vendor != "postgresql":
        return ""
    within = unfinished(column)
    (first, last), (begin, end) = _Unfinished.span, days_span(run_ids)
    if begin < first or end > last:
        within = _within(column, min(begin, first), max(end, last))
    return f"AND {column} {dialect().one_of(query)} {within}"


def unfinished(column: str = "id") -> str:
    """`AND ...`: met by unfinished runs, but for some that another process created
    within the last KEPT_SECONDS with a day that had none: fires that are planned days
    late. For statements that may find those a little later; what counts exactly, as a
    limit does, goes without.
    """
    if connection.vendor != "postgresql":
        return ""
    now = time.monotonic()
    if _Unfinished.read_at is None or now - _Unfinished.read_at > KEPT_SECONDS:
        _Unfinished.span = _read()
        _Unfinished.read_at = now
    return _within(column, *_Unfinished.span)


def created(run_ids: Sequence[int]) -> None:
    """Take note of new runs: this process is to find them at once."""
    if run_ids and _Unfinished.read_at is not None:
        begin, end = days_span(run_ids)
        _Unfinished.span = (
            min(begin, _Unfinished.span[0]),
            max(end, _Unfinished.span[1]),
        )


def forget() -> None:
    """Read anew at the next question."""
    _Unfinished.read_at = None


def _within(column: str, begin: int, end: int) -> str:
    return f"AND {column} >= {begin} AND {column} < {end}"


def _read() -> tuple[int, int]:
    ((oldest, newest),) = fetch(
        """
        SELECT LEAST(
            (SELECT MIN(id) FROM tasks_app_taskrun WHERE status = 'queued'),
            (SELECT MIN(id) FROM tasks_app_taskrun WHERE status = 'running')),
        GREATEST(
            (SELECT MAX(id) FROM tasks_app_taskrun WHERE status = 'queued'),
            (SELECT MAX(id) FROM tasks_app_taskrun WHERE status = 'running'))
        """
    )
    today = database_now().date()
    begin = first_id(today - timedelta(days=DAYS_BEFORE))
    end = first_id(today + timedelta(days=DAYS_AHEAD))
    if oldest is None:
        return begin, end
    first, last = days_span([oldest, newest])
    return min(begin, first), max(end, last)
