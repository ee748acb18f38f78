"""The record of what happened to runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from tasks_app.ledger.dialects import as_json, dialect, fetch
from tasks_app.ledger.plans import fetch_planned


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


Statement = tuple[str, Sequence[Any]]
"""With its parameters."""


@dataclass(frozen=True, slots=True)
class Change:
    """A statement that changes runs, with its parameters.

    `returns`: the columns that it returns, in their order, each with its kind (as in
    `Dialect.rows`). `answers`: those of them that its caller asks for, all by default.
    `beside`: one that is carried out with it.
    """

    statement: str
    params: Sequence[Any]
    returns: Mapping[str, str]
    answers: Sequence[str] = ()
    beside: Statement | None = None


def changed(change: Change, *inserts: str) -> list[tuple[Any, ...]]:
    """Make a change with what follows from it, and return the answers of its rows,
    times as `as_time` reads them.

    `inserts` are statements that read what the change returned, as `changed`. One
    statement where the database can do that: an event costs a fraction of what
    `record` takes for it.
    """
    sql = dialect()
    answers = change.answers or tuple(change.returns)
    if sql.writes_in_cte:
        read = [sql.as_read(name, change.returns[name]) for name in answers]
        beside, params = change.beside or ("", ())
        also = [*inserts, beside] if beside else inserts
        follows = ", ".join(f"i{n} AS ({each})" for n, each in enumerate(also))
        return fetch_planned(
            f"""
            WITH changed AS ({change.statement}), {follows}
            SELECT {", ".join(read)} FROM changed
            """,
            *change.params,
            *params,
        )
    with transaction.atomic(savepoint=False):
        rows = fetch(change.statement, *change.params)
        named = [dict(zip(change.returns, row, strict=True)) for row in rows]
        given = as_json(named)
        for insert in inserts:
            source = f"SELECT * FROM {sql.rows(change.returns)}"
            fetch(f"WITH changed AS ({source}) {insert}", given)
        if change.beside:
            fetch(change.beside[0], *change.beside[1])
    return [tuple(row[name] for name in answers) for row in named]


def event(where: str = "true", **columns: str) -> str:
    """For `changed`: append an event for each run that meets `where`.

    `columns` holds an SQL expression over what the change returns for each column of
    an event but `at`.
    """
    return f"""
        INSERT INTO tasks_app_runevent (at, {", ".join(columns)})
        SELECT {dialect().now}, {", ".join(columns.values())} FROM changed
        WHERE {where}
        """


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
