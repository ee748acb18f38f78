"""The record of what happened to runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from tasks_app.ledger.dialects import as_json, dialect, fetch


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a run; `status` is the run's status after it."""

    run_id: int
    kind: str
    attempt: int
    status: str
    actor: str = ""
    detail: dict[str, Any] | None = None


_EVENT = {
    "run_id": "int",
    "kind": "text",
    "attempt": "int",
    "status": "text",
    "actor": "text",
    "detail": "json",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A statement that changes runs, with its parameters.

    `returns`: the columns that it returns, in their order, each with its kind (as in
    `Dialect.rows`).
    """

    statement: str
    params: Sequence[Any]
    returns: Mapping[str, str]


def recorded(
    change: Change, where: str = "true", **event: str
) -> list[tuple[Any, ...]]:
    """Make a change, append an event for each run that it returns, and return its rows.

    `event` holds an SQL expression over the change's columns for each column of an
    event but `at`; runs that do not meet `where` get none. One statement where the
    database can do that: an event costs a fraction of what `record` takes for it.
    """
    sql = dialect()
    columns, values = ", ".join(event), ", ".join(event.values())
    into = f"INSERT INTO tasks_app_runevent (at, {columns}) SELECT {sql.now}, {values}"
    if sql.writes_in_cte:
        return fetch(
            f"""
            WITH changed AS ({change.statement}),
                event AS ({into} FROM changed WHERE {where})
            SELECT * FROM changed
            """,
            *change.params,
        )
    with transaction.atomic(savepoint=False):
        rows = fetch(change.statement, *change.params)
        named = [dict(zip(change.returns, row, strict=True)) for row in rows]
        fetch(f"{into} FROM {sql.rows(change.returns)} WHERE {where}", as_json(named))
    return rows


def record(events: Iterable[Event]) -> None:
    """Append events, in the caller's transaction, at the database's time."""
    rows = list(events)
    if not rows:
        return
    sql = dialect()
    fetch(
        f"""
        INSERT INTO tasks_app_runevent
            (run_id, at, kind, attempt, status, actor, detail)
        SELECT run_id, {sql.now}, kind, attempt, status, actor, detail
        FROM {sql.rows(_EVENT)}
        """,
        as_json(rows),
    )
