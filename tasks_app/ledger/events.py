"""The record of what happened to runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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
