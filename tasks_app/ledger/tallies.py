"""Roll-ups: how many runs of a task ended how, hour by hour. They outlive the runs.

A transaction that ends runs appends what it has ended, so that no two ends wait for
one row, and the sums are those of the runs whatever is killed. The upkeep folds the
rows of an hour, task and status into one.
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
            SELECT DISTINCT hour FROM tasks_app_runtally WHERE hour >= %s
            GROUP BY hour, task_id, status HAVING count(*) > 1
            """,
            as_stored(since),
        )
        return sum(_fold(as_time(hour)) for (hour,) in hours)


_TWICE = """(task_id, status) IN (SELECT task_id, status FROM tasks_app_runtally
    WHERE hour = %s GROUP BY task_id, status HAVING count(*) > 1)"""


def _fold(hour: datetime) -> int:
    """Of the rows that another one folds at the same time, this finds none.

    In the database alone: an hour has a row for each task that ran in it.
    """
    at = as_stored(hour)
    gone = f"DELETE FROM tasks_app_runtally WHERE hour = %s AND {_TWICE}"
    if dialect().writes_in_cte:
        rows = fetch(
            f"""
            WITH gone AS ({gone} RETURNING {_COLUMNS}),
            folded AS ({_folded("gone")} RETURNING 1)
            SELECT (SELECT count(*) FROM gone) - (SELECT count(*) FROM folded)
            """,
            at,
            at,
        )
        return int(rows[0][0])
    ((last,),) = fetch("SELECT MAX(id) FROM tasks_app_runtally")
    kept = fetch(
        f"{_folded(f'tasks_app_runtally WHERE hour = %s AND {_TWICE}')} RETURNING 1",
        at,
        at,
    )
    return len(fetch(f"{gone} AND id <= %s RETURNING 1", at, at, last)) - len(kept)


def _folded(rows: str) -> str:
    """A statement that adds up `rows`, as after FROM, to one row of a kind each."""
    return f"""
        INSERT INTO tasks_app_runtally ({_COLUMNS})
        SELECT hour, task_id, status, SUM(runs), SUM(run_seconds), SUM(wait_seconds)
        FROM {rows} GROUP BY hour, task_id, status
        """
