"""Which database is asked: the default one, unless a query names the history."""

from __future__ import annotations

from typing import Any


class HistoryRouter:
    """Rows of the history stand in relations with those of the default database: a run
    there is of a task here. Where Django is not told, it asks the database that a row
    has come from, or the default one."""

    def allow_relation(self, *_objects: Any, **_hints: Any) -> bool:
        return True
