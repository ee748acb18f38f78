"""Roll-ups: how many runs of a task ended how, hour by hour. They outlive the runs.

A transaction that ends runs appends what it has ended, so that no two ends wait for
one row, and the sums are those of the runs whatever is killed. The upkeep folds the
rows of an hour, task and status into one, and adds them to the sums of the hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction

from tasks_app.ledger.dialects import (
    as_json,
    as_stored,
    as_time,
    database_now,
    dialect,
    fetch,
)
from tasks_app.ledger.pruning import these

_TABLE = "tasks_app_runtally"
FOLDED_AGAIN = timedelta(hours=2)
"""So far back the rows of an hour may still grow more: until its last end commits."""

_KINDS = {
    "hour": "time",
    "task_id": "int",
    "status": "text",
    "runs": "int",
    "run_seconds": "float",
    "wait_seconds": "float",
}
_COLUMNS = ", ".join(_KINDS)


def add(run_ids: Sequence[int]) -> None:
    """Count runs that the caller's transaction has just brought to a terminal state."""
    if run_ids:
        ended = f"tasks_app_taskrun WHERE id IN ({dialect().ids()}) {these(run_ids)}"
        fetch(tally(ended), as_json(run_ids))


def tally(ended: str) -> str:
    """A statement that counts ends. `ended`: where they are found, as after FROM, by
    the columns of a run."""
    sql = dialect()
    return f"""
        INSERT INTO tasks_app_runtally ({_COLUMNS})
        SELECT {sql.hour("completed_at")}, task_id, status, count(*),
            SUM({sql.seconds("started_at", "completed_at")}),
            SUM({sql.seconds("due_at", "started_at")})
        FROM {ended} GROUP BY 1, 2, 3
        """


def fold(since: datetime | None = None) -> int:
    """Make one row of the rows of each hour, task and status, from the hour of `since`
    on; by default, of the hours that may have grown lately.

    Readers see the same sums before, meanwhile and after. Returns how many rows fewer
    there are.
    """
    since = since or database_now() - FOLDED_AGAIN
    since = since.replace(minute=0, second=0, microsecond=0)
    with transaction.atomic():
        hours = fetch(
            """
            SELECT DISTINCT hour FROM tasks_app_runtally
            WHERE NOT is_folded AND hour >= %s ORDER BY hour
            """,
            as_stored(since),
        )
        return sum(_fold(as_time(hour)) for (hour,) in hours)


def _fold(hour: datetime) -> int:
    """Of the rows that another one folds at the same time, this finds none.

    In the database alone: an hour has a row for each task that ran in it.
    """
    at = as_stored(hour)
    new = "hour = %s AND NOT is_folded"
    if dialect().writes_in_cte:
        rows = fetch(
            f"""
            WITH new AS (DELETE FROM {_TABLE} WHERE {new} RETURNING {_COLUMNS}),
            old AS (
                DELETE FROM {_TABLE} WHERE hour = %s AND is_folded
                AND (task_id, status) IN (SELECT task_id, status FROM new)
                RETURNING {_COLUMNS}),
            gone AS (SELECT * FROM new UNION ALL SELECT * FROM old),
            folded AS ({_folded("gone")} RETURNING 1),
            added AS ({_added("new")})
            SELECT (SELECT count(*) FROM gone) - (SELECT count(*) FROM folded)
            """,
            at,
            at,
        )
        return int(rows[0][0])
    ((last,),) = fetch(f"SELECT MAX(id) FROM {_TABLE}")
    found = f"{_TABLE} WHERE {new} AND id <= %s"
    gone = f"""{_TABLE} WHERE hour = %s AND id <= %s
        AND (task_id, status) IN (SELECT task_id, status FROM {found})"""
    fetch(_added(found), at, last)
    kept = fetch(f"{_folded(gone)} RETURNING 1", *[at, last] * 2)
    return len(fetch(f"DELETE FROM {gone} RETURNING 1", *[at, last] * 2)) - len(kept)


def _folded(rows: str) -> str:
    """A statement that adds up `rows`, as after FROM, to one row of a kind each."""
    return f"""
        INSERT INTO {_TABLE} ({_COLUMNS}, is_folded)
        SELECT hour, task_id, status, SUM(runs), SUM(run_seconds), SUM(wait_seconds),
            NOT {dialect().false}
        FROM {rows} GROUP BY hour, task_id, status
        """


def _added(rows: str) -> str:
    """A statement that adds `rows`, as after FROM, to the sums of their hours."""
    return f"""
        INSERT INTO tasks_app_hourtally AS h (hour, status, runs)
        SELECT hour, status, SUM(runs) FROM {rows} GROUP BY hour, status ORDER BY status
        ON CONFLICT (hour, status) DO UPDATE SET runs = h.runs + excluded.runs
        """


def ended_by_hour(since: datetime) -> list[tuple[datetime, str, int]]:
    """How many runs ended in each hour from `since` on, by status. Reads what is not
    folded yet, a minute's ends, beside the sums of the hours."""
    rows = fetch(
        """
        SELECT hour, status, SUM(runs) FROM (
            SELECT hour, status, runs FROM tasks_app_hourtally WHERE hour >= %s
            UNION ALL
            SELECT hour, status, runs FROM tasks_app_runtally
            WHERE NOT is_folded AND hour >= %s) AS ended
        GROUP BY hour, status
        """,
        as_stored(since),
        as_stored(since),
    )
    return [(as_time(hour), status, int(runs)) for hour, status, runs in rows]
