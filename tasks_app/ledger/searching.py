"""Finding runs in a long history, newest first, at a bounded cost.

A list is walked along an index: that of the tasks, of the workflow or of the states
that are asked for, or else by number alone. What else is asked for is checked along the
way, and a page looks at LOOK_AT runs and no more: if they hold too few, the page is
short and says how far it has come (docs/history.md).

The walk reads numbers from the index alone, and only then the rows that are left to
check. Left to choose, PostgreSQL takes a filter for evenly spread and walks the whole
history for a state that occurred in one week of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections

from tasks_app.choices import RunStatus
from tasks_app.ledger.dialects import as_json, as_time, dialect, fetch
from tasks_app.ledger.pruning import these
from tasks_app.rules.run_ids import IDS_PER_DAY, days_span, first_id
from tasks_app.rules.states import TERMINAL

LOOK_AT = 20_000
"""Runs that one page may look at, one after another."""
LOOK_UP = 4_000
"""Runs that one page may look up, each by its number: as long as LOOK_AT in a row."""
FEW_WALKS, MAX_WALKS = 20, 200
"""Tasks that are walked side by side. Of more than MAX_WALKS some ran lately; of more
than FEW_WALKS, those in a given state are found by the state."""
LATE_DAYS = 7
"""A run that started, or ended, later than this after its day is found by all but its
times."""
MAX_ID = 2**63 - 1
UNFINISHED = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})


@dataclass(frozen=True, slots=True)
class RunSearch:
    """The runs that are looked for. None leaves a field open; () matches no run."""

    task_ids: tuple[int, ...] | None = None
    statuses: tuple[str, ...] | None = None
    triggers: tuple[str, ...] | None = None
    worker_ids: tuple[int, ...] | None = None
    queues: tuple[str, ...] | None = None
    root_id: int | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None
    ended_after: datetime | None = None
    ended_before: datetime | None = None
    scheduled_after: datetime | None = None

    @property
    def is_void(self) -> bool:
        lists = (self.task_ids, self.statuses, self.triggers)
        return () in (*lists, self.worker_ids, self.queues)


@dataclass(frozen=True, slots=True)
class Found:
    """Numbers of runs in the order of the walk. `edge`: the last number looked at, if
    the walk stopped before its end; the next one goes on there. `is_history_away`: runs
    of the history belong here, and it does not answer."""

    run_ids: list[int]
    edge: int | None
    is_history_away: bool = False


@dataclass(frozen=True, slots=True)
class RecentRun:
    """A run as the small charts of lists show it: they have a thousand on a page, and
    as models, with the driver's times, these took half of it."""

    pk: int
    status: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class _Way:
    """The direction of a walk, as SQL: newest first, or oldest first."""

    order: str
    first: str
    last: str
    within: str


_DOWN = _Way(order="DESC", first="MAX", last="MIN", within=">=")
_UP = _Way(order="ASC", first="MIN", last="MAX", within="<=")


def search_down(
    search: RunSearch, *, before: int, limit: int, alias: str = DEFAULT_DB_ALIAS
) -> Found:
    """Up to `limit` runs with numbers below `before`, newest first."""
    spans = [(low, min(high, before)) for low, high in _spans(search)]
    return _walk_spans(search, spans, limit, _DOWN, alias)


def search_up(
    search: RunSearch, *, after: int, limit: int, alias: str = DEFAULT_DB_ALIAS
) -> Found:
    """Up to `limit` runs with numbers above `after`, oldest first."""
    spans = [(max(low, after + 1), high) for low, high in reversed(_spans(search))]
    return _walk_spans(search, spans, limit, _UP, alias)


def newest_of(task_ids: Sequence[int], count: int) -> dict[int, list[int]]:
    """Up to `count` runs of each of these tasks, newest first."""
    sql = dialect()
    newest = f"""SELECT id AS value FROM tasks_app_taskrun WHERE task_id = v.value
        ORDER BY id DESC LIMIT {count}"""
    rows = fetch(
        f"""
        SELECT v.value, r.value FROM {sql.rows({"value": "int"})}
        CROSS JOIN {sql.each(newest)} AS r ORDER BY r.value DESC
        """,
        as_json({"value": task_id} for task_id in task_ids),
    )
    found: dict[int, list[int]] = {task_id: [] for task_id in task_ids}
    for task_id, run_id in rows:
        found[task_id].append(run_id)
    return found


def recent_runs(task_ids: Sequence[int], count: int) -> dict[int, list[RecentRun]]:
    """Up to `count` runs of each of these tasks, the newest last: two statements,
    however long the history."""
    newest = newest_of(task_ids, count)
    run_ids = [run_id for of_task in newest.values() for run_id in of_task]
    sql = dialect()
    times = ", ".join(
        sql.as_read(column, "time")
        for column in ("created_at", "started_at", "completed_at")
    )
    rows = fetch(
        f"""
        SELECT id, status, {times} FROM tasks_app_taskrun
        WHERE id IN ({sql.ids()}) {these(run_ids)}
        """,
        as_json(run_ids),
    )
    runs = {
        run_id: RecentRun(run_id, status, *map(as_time, at))
        for run_id, status, *at in rows
    }
    return {
        task_id: [runs[run_id] for run_id in reversed(of_task) if run_id in runs]
        for task_id, of_task in newest.items()
    }


def _spans(search: RunSearch) -> list[tuple[int, int]]:
    """The numbers that the runs can have, the newest span first, by the days that
    numbers carry; those of before they did may be of any day."""
    low, high = IDS_PER_DAY, MAX_ID
    late = timedelta(days=LATE_DAYS)
    for at in (search.started_before, search.ended_before):
        if at is not None:
            high = min(high, _first_id(at + timedelta(days=1)))
    for at in (search.started_after, search.ended_after):
        if at is not None:
            low = max(low, _first_id(at - late))
    if search.scheduled_after is not None:
        low = max(low, _first_id(search.scheduled_after))
    if low == IDS_PER_DAY:
        return [(0, high)]
    return [(low, high), (0, IDS_PER_DAY)]


def _first_id(at: datetime) -> int:
    day = max(date(2000, 1, 1), min(at.date(), date(2099, 12, 31)))
    return first_id(day)


def _walk_spans(
    search: RunSearch,
    spans: Sequence[tuple[int, int]],
    limit: int,
    way: _Way,
    alias: str,
) -> Found:
    found: list[int] = []
    for low, high in spans:
        if search.is_void or low >= high:
            continue
        part = _walk(search, (low, high), limit - len(found), way, alias)
        found += part.run_ids
        if len(found) == limit or part.edge is not None:
            return Found(found, part.edge)
    return Found(found, None)


def _walk(
    search: RunSearch, span: tuple[int, int], limit: int, way: _Way, alias: str
) -> Found:
    """One statement. `edge` is where the first of the walks that stopped for its limit
    did so: what lies beyond it may be incomplete."""
    lead = _lead(search)
    checks = list(_checks(search, lead.column if lead else ""))
    if lead and checks and RunStatus.SUCCEEDED in lead.params:  # as most runs are
        lead, checks = None, list(_checks(search, ""))
    is_match = " AND ".join(check.sql for check in checks) or "1 = 1"
    tested = [value for check in checks for value in check.params]
    if lead is None:
        most = LOOK_AT if checks else limit
        looked, params = _by_number(is_match, span, most, way), tested
        is_match = "l.is_match"
    else:
        most = max(1, LOOK_UP // len(lead.params)) if checks else limit
        looked, params = lead.walk(span, most, way), [lead.values_json, *tested]
        if checks:
            # Not EXISTS, which may become a join that reads the whole table.
            is_match = f"""(SELECT {is_match} FROM tasks_app_taskrun r
                WHERE r.id = l.id)"""
    rows = _fetch(
        alias,
        f"""
        WITH looked AS MATERIALIZED ({looked}),
        edge AS MATERIALIZED (
            SELECT {way.first}(last) AS id FROM (
                SELECT {way.last}(id) AS last FROM looked
                GROUP BY lead HAVING COUNT(*) = {most}) AS full_walks)
        SELECT edge.id, page.id FROM edge LEFT JOIN (
            SELECT l.id FROM (
                SELECT * FROM looked
                WHERE id {way.within} COALESCE((SELECT id FROM edge), id)
                ORDER BY id {way.order} LIMIT {LOOK_AT}) AS l
            WHERE {is_match} LIMIT {limit}) AS page ON 1 = 1
        ORDER BY page.id {way.order}
        """,
        params,
    )
    return Found([row[1] for row in rows if row[1] is not None], rows[0][0])


@dataclass(frozen=True, slots=True)
class _Lead:
    """A column with an index by which to walk, and the values to walk by."""

    column: str
    params: Sequence[Any]

    @property
    def values_json(self) -> str:
        return as_json({"value": value} for value in self.params)

    def walk(self, span: tuple[int, int], most: int, way: _Way) -> str:
        """A walk for each value, each of `most` runs at the most."""
        sql = dialect()
        kind = "text" if self.column == "status" else "int"
        low, high = span
        within = f"id >= {low} AND id < {high}"
        runs = f"SELECT id FROM tasks_app_taskrun WHERE {within}"
        if self.column == "root_id":  # the root of a workflow has none itself
            low, high = days_span([self.params[0]])
            runs += f" AND id >= {low} AND id < {high}"
            runs = f"""SELECT id FROM ({runs} AND id = v.value
                UNION ALL {runs} AND root_id = v.value) AS workflow"""
        else:
            runs += f" AND {self.column} = v.value"
        walk = f"""SELECT id AS value FROM (
            {runs} ORDER BY id {way.order} LIMIT {most}) AS w"""
        return f"""
            SELECT v.value AS lead, r.value AS id
            FROM {sql.rows({"value": kind})} CROSS JOIN {sql.each(walk)} AS r
            """


def _lead(search: RunSearch) -> _Lead | None:
    if search.root_id is not None:
        return _Lead("root_id", [search.root_id])
    tasks, statuses = search.task_ids, search.statuses
    by_status = _Lead("status", statuses) if statuses else None
    if by_status and UNFINISHED.issuperset(by_status.params):
        return by_status  # there are few of them
    if tasks and len(tasks) <= (FEW_WALKS if by_status else MAX_WALKS):
        return _Lead("task_id", tasks)
    return by_status


def _by_number(is_match: str, span: tuple[int, int], most: int, way: _Way) -> str:
    """The one walk over all runs."""
    return f"""
        SELECT 0 AS lead, r.id, {is_match} AS is_match FROM tasks_app_taskrun r
        WHERE r.id >= {span[0]} AND r.id < {span[1]}
        ORDER BY r.id {way.order} LIMIT {most}
        """


@dataclass(frozen=True, slots=True)
class _Check:
    sql: str
    params: Sequence[Any]


def _checks(search: RunSearch, lead: str) -> Iterator[_Check]:
    """What the walk itself does not see to."""
    lists: dict[str, Sequence[Any] | None] = {
        "task_id": search.task_ids,
        "status": search.statuses,
        '"trigger"': search.triggers,
        "worker_id": search.worker_ids,
        "queue": search.queues,
    }
    for column, values in lists.items():
        if values is not None and column != lead:
            marks = ", ".join(["%s"] * len(values))
            yield _Check(f"r.{column} IN ({marks})", values)
    times = {
        "started_at >= %s": search.started_after,
        "started_at < %s": search.started_before,
        "completed_at >= %s": search.ended_after,
        "completed_at < %s": search.ended_before,
        "scheduled_for >= %s": search.scheduled_after,
    }
    adapt = connection.ops.adapt_datetimefield_value
    for sql, at in times.items():
        if at is not None:
            yield _Check(f"r.{sql}", [adapt(at)])


def _fetch(alias: str, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found
