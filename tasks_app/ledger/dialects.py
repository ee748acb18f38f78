"""What differs between the SQL of PostgreSQL and of SQLite, behind the same names.

Every statement of the ledger is written once. Lists go in as one JSON parameter, so
that a statement takes any number of rows in one round trip on both databases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from django.db import connection

from tasks_app.rules.run_ids import IDS_PER_DAY


class Dialect(Protocol):
    """Fragments of SQL. `now` is the database's clock, the one that decides (C13)."""

    now: str
    false: str
    skip_locked: str
    """Locks the rows of a SELECT and passes over locked ones. A courtesy between
    concurrent callers: correctness comes from the compare-and-set, for SQLite has
    no row locks."""
    lock: str
    lock_task: str
    """Locks task rows, and lets others insert runs of them meanwhile."""
    skip_locked_task: str
    """The same, and passes over locked ones."""
    row_version: str
    """A column that every table has, which differs between what a statement sees of a
    row and what it has locked, if the row was changed meanwhile."""
    writes_in_cte: bool

    def later(self, seconds: str) -> str:
        """The time `seconds` (an SQL expression) from now."""
        ...

    def rows(self, columns: Mapping[str, str]) -> str:
        """A row source over one `%s`, a JSON array of objects.

        `columns` maps each name to its kind: int, float, text, time, json.
        """
        ...

    def ids(self) -> str:
        """A subquery over one `%s`, a JSON array of integers."""
        ...

    def each(self, select: str) -> str:
        """A row source over a SELECT of whole numbers, named `value`, that may read
        the row sources before it. To be given a name."""
        ...

    def as_read(self, column: str, kind: str) -> str:
        """A column as a raw statement does best to read it: a time as a text that sorts
        like it, for `as_time`, which takes a tenth of what the driver does for it."""
        ...

    def seconds(self, begin: str, end: str) -> str:
        """The seconds from one time to another; 0 if one is NULL, or the end first."""
        ...

    def hour(self, at: str) -> str:
        """The beginning of a time's hour, in UTC."""
        ...

    def new_run_id(self, root_id: str, at: str) -> str:
        """The number of a new run: of the day of its root, or of the moment `at` if it
        has none (tasks_app/rules/run_ids.py). NULL where the table counts by itself."""
        ...

    def one_of(self, query: str) -> str:
        """The condition, after an expression, that it is in what a small query finds.

        For ids that each are to be looked up by the index. IN has PostgreSQL read all
        of a table that it believes to be small, for it has grown since it was last
        counted; or, with a range of ids beside it as `pruning` adds, all of a day.
        """
        ...

    def json(self, **members: str) -> str:
        """A JSON object of SQL expressions; members that are NULL are left out."""
        ...

    def as_plain(self, value: object) -> str:
        """What JSON has no form for, as a text: a time, so that it compares with stored
        ones. Raises TypeError for all else."""
        ...

    def has_rows(self, cursor: Any) -> bool:
        """Whether the statement that was carried out returns rows."""
        ...


class PostgreSQL:
    now = "clock_timestamp()"
    false = "false"
    skip_locked = "FOR UPDATE SKIP LOCKED"
    lock = "FOR UPDATE"
    lock_task = "FOR NO KEY UPDATE OF t"
    skip_locked_task = "FOR NO KEY UPDATE OF t SKIP LOCKED"
    row_version = "xmin"
    writes_in_cte = True
    _types = {
        "int": "bigint",
        "float": "double precision",
        "text": "text",
        "time": "timestamptz",
        "json": "jsonb",
        "bool": "boolean",
    }

    def later(self, seconds: str) -> str:
        return f"{self.now} + ({seconds}) * interval '1 second'"

    def rows(self, columns: Mapping[str, str]) -> str:
        typed = ", ".join(f"{name} {self._types[columns[name]]}" for name in columns)
        return f"jsonb_to_recordset(%s::jsonb) AS v({typed})"

    def ids(self) -> str:
        return "SELECT value::bigint AS value FROM jsonb_array_elements_text(%s::jsonb)"

    def each(self, select: str) -> str:
        return f"LATERAL ({select})"

    def as_read(self, column: str, kind: str) -> str:
        return f"{column}::text" if kind == "time" else column

    def seconds(self, begin: str, end: str) -> str:
        span = f"EXTRACT(EPOCH FROM {end} - {begin})::double precision"
        return f"CASE WHEN {end} > {begin} THEN {span} ELSE 0 END"

    def hour(self, at: str) -> str:
        return f"date_trunc('hour', {at}, 'UTC')"

    def new_run_id(self, root_id: str, at: str) -> str:
        today = f"to_char({at} AT TIME ZONE 'UTC', 'YYMMDD')::bigint"
        return (
            f"COALESCE({root_id} / {IDS_PER_DAY}, {today}) * {IDS_PER_DAY}"
            f" + nextval('tasks_app_taskrun_id_seq') %% {IDS_PER_DAY}"
        )

    def one_of(self, query: str) -> str:
        return f"= ANY (ARRAY({query}))"

    def json(self, **members: str) -> str:
        return f"jsonb_strip_nulls(jsonb_build_object({_pairs(members)}))"

    def as_plain(self, value: object) -> str:
        return _in_utc(value).isoformat()

    def has_rows(self, cursor: Any) -> bool:
        # psycopg describes all columns anew, at a fifth of the statement's cost.
        return cursor.rownumber is not None


class SQLite:
    # As Django writes times on SQLite, with six digits, so that they compare as text.
    now = "(strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now') || '000')"
    false = "0"
    skip_locked = lock = lock_task = skip_locked_task = ""
    row_version = "rowid"  # nobody changes rows meanwhile
    writes_in_cte = False

    def later(self, seconds: str) -> str:
        return (
            "(strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now',"
            f" ({seconds}) || ' seconds') || '000')"
        )

    def rows(self, columns: Mapping[str, str]) -> str:
        picked = ", ".join(self._pick(name, columns[name]) for name in columns)
        return f"(SELECT {picked} FROM json_each(%s)) AS v"

    def _pick(self, name: str, kind: str) -> str:
        if kind == "json":  # the JSON text itself; an absent or null value is NULL
            return f"NULLIF(value -> '$.{name}', 'null') AS {name}"
        return f"value ->> '$.{name}' AS {name}"

    def ids(self) -> str:
        return "SELECT value FROM json_each(%s)"

    def each(self, select: str) -> str:
        return f"json_each((SELECT json_group_array(value) FROM ({select})))"

    def as_read(self, column: str, kind: str) -> str:  # noqa: ARG002
        return column

    def seconds(self, begin: str, end: str) -> str:
        span = f"(julianday({end}) - julianday({begin})) * 86400.0"
        return f"CASE WHEN {end} > {begin} THEN {span} ELSE 0.0 END"

    def hour(self, at: str) -> str:
        return f"substr({at}, 1, 13) || ':00:00'"

    def new_run_id(self, root_id: str, at: str) -> str:  # noqa: ARG002
        return "NULL"

    def one_of(self, query: str) -> str:
        return f"IN ({query})"

    def json(self, **members: str) -> str:
        return f"json_patch('{{}}', json_object({_pairs(members)}))"  # drops nulls

    def as_plain(self, value: object) -> str:
        return str(_in_utc(value).replace(tzinfo=None))

    def has_rows(self, cursor: Any) -> bool:
        return cursor.description is not None


def _pairs(members: Mapping[str, str]) -> str:
    return ", ".join(f"'{name}', {value}" for name, value in members.items())


_DIALECTS: dict[str, Dialect] = {"postgresql": PostgreSQL(), "sqlite": SQLite()}


def dialect() -> Dialect:
    """The dialect of the default database."""
    return _DIALECTS[connection.vendor]


def fetch(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows (none for one that returns nothing)."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        has_rows = _DIALECTS[cursor.db.vendor].has_rows(cursor)
        return cursor.fetchall() if has_rows else []


def as_json(rows: Iterable[Any]) -> str:
    """A parameter for `Dialect.rows` and `Dialect.ids`: dataclasses, dicts or ints.

    What PostgreSQL cannot store is replaced: NUL characters and lone surrogates.
    """
    plain = [_fields(row) for row in rows]
    default = dialect().as_plain
    text = json.dumps(plain, default=default)
    if "\\u0000" in text or "\\ud" in text:
        text = json.dumps(_storable(plain), default=default)
    return text


def _fields(row: Any) -> Any:
    """A record by its fields, but for those that are None: NULL either way.
    `dataclasses.asdict` copies deep, at twice the cost."""
    names = getattr(row, "__slots__", None)
    if names is None:
        return row
    return {name: value for name in names if (value := getattr(row, name)) is not None}


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value


def as_stored(at: datetime) -> str:
    """A time as a parameter that compares with stored ones."""
    return dialect().as_plain(at)


def _in_utc(value: object) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    raise TypeError(f"{type(value).__name__} has no place in the ledger")


def as_time(value: Any) -> Any:
    """A time read by a raw statement: SQLite's is a text, or lacks its zone (UTC)."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def database_now() -> datetime:
    """The database's clock: aware, UTC."""
    (now,) = fetch(f"SELECT {dialect().now}")[0]
    return as_time(now).astimezone(UTC)  # type: ignore[no-any-return]
