"""Plans that PostgreSQL keeps, for the statements of every claim and of every end.

To parse and to plan such a statement takes twice as long as to start or to end a run.
A claimant's connection has them prepared; all others do without.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import DatabaseError, connection

from tasks_app.ledger.dialects import fetch

MAX_KEPT = 50
"""Statements of one connection: their texts change with the day, and with the lanes in
which runs wait."""
SETTINGS = (
    # A plan may be made while the table is small, and is kept when it has grown.
    "SET enable_seqscan = off",
    "SET enable_bitmapscan = off",  # of all runs that wait, for one
    "SET plan_cache_mode = force_generic_plan",
    "SET jit = off",  # which takes a forbidden scan of a small table for a long one
)

_kept: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()
"""By the driver's connection: the names of the prepared statements by their texts."""
_numbers = count(1)


def keep_plans() -> None:
    """From now on have this connection keep the plans of `fetch_planned`.

    Within a transaction this is left to the next call: the settings would go with its
    rollback. Behind a pooler, which hands out another connection for each transaction,
    nothing is kept; on SQLite there is nothing to keep.
    """
    if connection.vendor != "postgresql" or settings.DATABASE_POOLER:
        return
    connection.ensure_connection()
    if connection.connection not in _kept and not connection.in_atomic_block:
        for setting in ("DEALLOCATE ALL", *SETTINGS):
            fetch(setting)
        _kept[connection.connection] = {}


def fetch_planned(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """As `fetch`, for a statement whose text is mostly the same. Its `%s` must stand
    where PostgreSQL can tell their types."""
    driver = connection.connection
    names = _kept.get(driver) if driver else None
    if names is None:
        return fetch(sql, *params)
    try:
        if sql not in names:
            _prepare(sql, names)
        marks = ", ".join(["%s"] * len(params))
        return fetch(f"EXECUTE {names[sql]} ({marks})", *params)
    except DatabaseError:  # a change of the schema may be at fault: prepare anew
        _kept.pop(driver, None)
        raise


def _prepare(sql: str, names: dict[str, str]) -> None:
    if len(names) >= MAX_KEPT:
        fetch("DEALLOCATE ALL")
        names.clear()
    name, marks = f"kept_{next(_numbers)}", count(1)
    text = re.sub("%s|%%", lambda m: f"${next(marks)}" if m[0] == "%s" else "%", sql)
    with connection.cursor() as cursor:
        cursor.execute(f"PREPARE {name} AS {text}")
    names[sql] = name
