"""Plans that PostgreSQL keeps, for the statements that create, claim and end runs.

To parse and to plan such a statement takes longer than to carry it out for one run. So
it is prepared, once for each connection, and planned with settings that make a plan
good for any number of rows: a claimant's connection has them for good, the others for
the transaction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError, connection

from tasks_app.ledger.dialects import fetch

MAX_KEPT = 50
"""Statements of one connection: their texts change with the day, and with the lanes in
which runs wait."""
SETTINGS = {
    # A plan may be made while the table is small, and is kept when it has grown.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",  # of all runs that wait, for one
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",  # which takes a forbidden scan of a small table for a long one
}


def _set(*, is_local: bool) -> str:
    """One statement for all of them: each has an answer that is to be read."""
    made = (f"set_config('{n}', '{v}', {is_local})" for n, v in SETTINGS.items())
    return f"SELECT {', '.join(made)}"


FOR_GOOD = _set(is_local=False)
FOR_THE_TRANSACTION = f"{_set(is_local=True)}; "


@dataclass(slots=True)
class _Kept:
    """The names of a connection's prepared statements, by their texts, and whether it
    has the settings for good."""

    names: dict[str, str] = field(default_factory=dict)
    is_claimants: bool = False


_kept: WeakKeyDictionary[Any, _Kept] = WeakKeyDictionary()
"""By the driver's connection."""
_numbers = count(1)


def keep_plans() -> None:
    """Have this connection plan with SETTINGS from now on.

    Within a transaction this is left to the next call: the settings would go with its
    rollback. Behind a pooler, which hands out another connection for each transaction,
    nothing is kept; on SQLite there is nothing to keep.
    """
    if not _keeps():
        return
    connection.ensure_connection()
    kept = _kept.get(connection.connection)
    if (kept is None or not kept.is_claimants) and not connection.in_atomic_block:
        fetch("DEALLOCATE ALL")
        fetch(FOR_GOOD)
        _kept[connection.connection] = _Kept(is_claimants=True)


def fetch_planned(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """As `fetch`, for a statement that returns rows and whose text is mostly the same.
    Its `%s` must stand where PostgreSQL can tell their types.

    The rest of the transaction is planned with SETTINGS, too. Outside of one the plan
    is kept by a claimant's connection only.
    """
    if not _keeps():
        return fetch(sql, *params)
    driver = connection.connection
    kept = _kept.get(driver) if driver else None
    is_claimants = kept is not None and kept.is_claimants
    if not is_claimants and not connection.in_atomic_block:
        return fetch(sql, *params)
    if kept is None:
        kept = _kept[driver] = _Kept()
    settings_first = "" if is_claimants else FOR_THE_TRANSACTION
    try:
        if sql not in kept.names:
            _prepare(sql, kept.names)
        marks = f"({', '.join(['%s'] * len(params))})" if params else ""
        with connection.cursor() as cursor:
            cursor.execute(f"{settings_first}EXECUTE {kept.names[sql]} {marks}", params)
            while cursor.nextset():
                """The settings answer, too."""
            return list(cursor.fetchall())
    except (DataError, IntegrityError):  # the rows are at fault
        raise
    except DatabaseError:  # a change of the schema may be: prepare anew
        _kept.pop(driver, None)
        raise


def _keeps() -> bool:
    return connection.vendor == "postgresql" and not settings.DATABASE_POOLER


def _prepare(sql: str, names: dict[str, str]) -> None:
    if len(names) >= MAX_KEPT:
        fetch("DEALLOCATE ALL")
        names.clear()
    name, marks = f"kept_{next(_numbers)}", count(1)
    text = re.sub("%s|%%", lambda m: f"${next(marks)}" if m[0] == "%s" else "%", sql)
    with connection.cursor() as cursor:
        cursor.execute(f"PREPARE {name} AS {text}")
    names[sql] = name
