"""Runs, events and logs in partitions by time, on PostgreSQL (docs/history.md).

The tables that are there become the first partitions, up to the end of this month, as
they are: no row is copied. Each is read once, and gets the index of its new key, while
nobody else may use it: some seconds per million rows. Back again copies every row.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from importlib import import_module
from itertools import pairwise

import django.db.models.deletion
from django.db import migrations, models

final_states = import_module("tasks_app.migrations.0002_final_states")

RUN, EVENT, LOG = "tasks_app_taskrun", "tasks_app_runevent", "tasks_app_runlog"
IDS_PER_DAY = 10**10
PARTITION_KEYS = {RUN: "id", EVENT: "run_id", LOG: "run_id"}
PRIMARY_KEYS = {
    RUN: f"CONSTRAINT {RUN}_pkey PRIMARY KEY (id)",
    EVENT: f"CONSTRAINT {EVENT}_pkey PRIMARY KEY (run_id, id)",
    LOG: "CONSTRAINT log_chunk_unique PRIMARY KEY (run_id, attempt, seq)",
}
OLD_KEYS = {
    RUN: [f"{RUN}_pkey"],
    EVENT: [f"{EVENT}_pkey"],
    LOG: [f"{LOG}_pkey", "log_chunk_unique"],
}
UNIQUE = {
    "run_unique_fire": f"{RUN} (task_id, scheduled_for, shard_index)"
    " WHERE trigger = 'schedule'",
    "run_unique_in_workflow": f"{RUN} (root_id, task_id, shard_index)"
    " WHERE trigger = 'dependency'",
}
"""Unique in each partition, which makes them unique: a fire's id carries the day of its
nominal time, that of a workflow's run the day of its root."""
IDS = {
    RUN: f"to_char(now() AT TIME ZONE 'UTC', 'YYMMDD')::bigint * {IDS_PER_DAY}"
    f" + nextval('{RUN}_id_seq') % {IDS_PER_DAY}",
    EVENT: f"nextval('{EVENT}_id_seq')",
    LOG: f"nextval('{LOG}_id_seq')",
}
"""For rows that come without an id; the ledger gives runs theirs."""


class Database:
    """What the steps need of a schema editor."""

    def __init__(self, schema_editor):
        self.run = lambda sql: schema_editor.execute(sql, params=None)
        self.connection = schema_editor.connection

    def rows(self, sql, *params):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()

    def indexes(self, table):
        """Name and definition of the indexes that serve no constraint."""
        return self.rows(
            """
            SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = %s::regclass AND NOT EXISTS (
                SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)
            """,
            table,
        )

    def foreign_keys(self, table):
        return self.rows(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = %s::regclass AND contype = 'f'",
            table,
        )


def partition(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    database = Database(schema_editor)
    # Whoever waits for the tables makes others wait: give up soon.
    database.run("SET LOCAL lock_timeout = '10s'")
    database.run(f"LOCK TABLE {RUN}, {EVENT}, {LOG} IN ACCESS EXCLUSIVE MODE")
    database.run(f"DROP TRIGGER run_outcome_is_final ON {RUN}")
    months = list(months_from(datetime.now(UTC).date()))[1:4]
    for table in PARTITION_KEYS:
        _take_over(database, table, until=months[0])
        _add_partition(database, table, "default", "DEFAULT")
        for begin, end in pairwise(months):
            _add_partition(database, table, f"{begin:%Y%m}", _bounds(begin, end))
    database.run(final_states.POSTGRESQL[1])


def months_from(day: date) -> Iterator[date]:
    """The first days of months: of this one, and of those after it."""
    for months in range(day.month - 1, day.month + 11):
        yield date(day.year + months // 12, months % 12 + 1, 1)


def _bounds(begin, end):
    return f"FOR VALUES FROM ({_first_id(begin)}) TO ({_first_id(end)})"


def _first_id(day):
    return int(f"{day:%y%m%d}") * IDS_PER_DAY


def _take_over(database, table, until):
    """Put a partitioned table in the place of a table, which becomes a partition."""
    first = f"{table}_first"
    _free_identity(database, table)
    indexes = _free_names(database, table)
    database.run(f"ALTER TABLE {table} RENAME TO {first}")
    if table != RUN:
        key = PRIMARY_KEYS[table].replace("CONSTRAINT ", "CONSTRAINT first_")
        database.run(f"ALTER TABLE {first} ADD {key}")
    database.run(
        f"CREATE TABLE {table} (LIKE {first} INCLUDING DEFAULTS INCLUDING CONSTRAINTS,"
        f" {PRIMARY_KEYS[table]}) PARTITION BY RANGE ({PARTITION_KEYS[table]})"
    )
    database.run(f"ALTER SEQUENCE {table}_id_seq OWNED BY {table}.id")
    for name, definition in indexes.items():
        if name not in UNIQUE:
            database.run(definition)
    for name, definition in database.foreign_keys(first):
        database.run(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
    database.run(
        f"ALTER TABLE {table} ATTACH PARTITION {first}"
        f" FOR VALUES FROM (MINVALUE) TO ({_first_id(until)})"
    )


def _free_names(database, table):
    """Rename the indexes of a table, or drop those that the new key replaces; returns
    the definitions, by the old names, of those that its partitions shall have."""
    for name in OLD_KEYS[table]:
        if table == RUN:
            database.run(f"ALTER INDEX {name} RENAME TO first_{name}")
        else:
            database.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    indexes = dict(database.indexes(table))
    for name in indexes:
        if table == EVENT:
            database.run(f"DROP INDEX {name}")
        else:
            database.run(f"ALTER INDEX {name} RENAME TO {f'first_{name}'[:63]}")
    return {} if table == EVENT else indexes


def _free_identity(database, table):
    """Number the rows by a sequence and a default: before PostgreSQL 17 a partition
    has no identity columns."""
    ((last, is_called),) = database.rows(
        f"SELECT last_value, is_called FROM {table}_id_seq"
    )
    database.run(f"ALTER TABLE {table} ALTER COLUMN id DROP IDENTITY")
    database.run(f"CREATE SEQUENCE {table}_id_seq")
    database.rows(f"SELECT setval('{table}_id_seq', %s, %s)", last, is_called)
    database.run(f"ALTER TABLE {table} ALTER COLUMN id SET DEFAULT {IDS[table]}")


def _add_partition(database, table, suffix, bounds):
    template = f"{table}_first"
    database.run(f"CREATE TABLE {table}_{suffix} (LIKE {template} INCLUDING ALL)")
    database.run(f"ALTER TABLE {table} ATTACH PARTITION {table}_{suffix} {bounds}")


def unpartition(apps, schema_editor):
    """One table again, with every row. What retention has removed stays removed, and
    runs that name a removed one name none."""
    if schema_editor.connection.vendor != "postgresql":
        return
    database = Database(schema_editor)
    database.run("SET LOCAL lock_timeout = '10s'")
    database.run(f"LOCK TABLE {RUN}, {EVENT}, {LOG} IN ACCESS EXCLUSIVE MODE")
    database.run(f"DROP TRIGGER run_outcome_is_final ON {RUN}")
    for table in PARTITION_KEYS:
        _copy_back(database, table)
    database.run(final_states.POSTGRESQL[1])


def _copy_back(database, table):
    old = f"{table}_partitioned"
    indexes = database.indexes(table)
    foreign_keys = database.foreign_keys(table)
    ((last, is_called),) = database.rows(
        f"SELECT last_value, is_called FROM {table}_id_seq"
    )
    database.run(f"ALTER TABLE {table} RENAME TO {old}")
    database.run(f"ALTER SEQUENCE {table}_id_seq RENAME TO {old}_seq")
    database.run(
        f"CREATE TABLE {table} (LIKE {old} INCLUDING CONSTRAINTS INCLUDING STORAGE)"
    )
    database.run(f"INSERT INTO {table} SELECT * FROM {old}")
    database.run(f"DROP TABLE {old}")
    for sql in WHOLE[table]:
        database.run(sql)
    database.run(
        f"ALTER TABLE {table} ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY"
    )
    database.rows(f"SELECT setval('{table}_id_seq', %s, %s)", last, is_called)
    for name in OLD_KEYS[table]:
        key = "PRIMARY KEY (id)" if name.endswith("_pkey") else LOG_CHUNK
        database.run(f"ALTER TABLE {table} ADD CONSTRAINT {name} {key}")
    for _, definition in indexes:
        database.run(definition.replace(" ON ONLY ", " ON ", 1))
    for name, definition in foreign_keys:
        database.run(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
    if table == RUN:
        for name, definition in UNIQUE.items():
            database.run(f"CREATE UNIQUE INDEX {name} ON {definition}")
    if table == EVENT:
        database.run(f"CREATE INDEX {EVENT}_run_id ON {EVENT} (run_id)")


LOG_CHUNK = "UNIQUE (run_id, attempt, seq)"
WHOLE = {
    RUN: [
        f"UPDATE {RUN} SET {name} = NULL WHERE {name} IS NOT NULL"
        f" AND NOT EXISTS (SELECT 1 FROM {RUN} r WHERE r.id = {RUN}.{name})"
        for name in ("root_id", "parent_id", "rerun_of_id")
    ],
    **{
        table: [
            f"DELETE FROM {table} WHERE NOT EXISTS"
            f" (SELECT 1 FROM {RUN} r WHERE r.id = run_id)"
        ]
        for table in (EVENT, LOG)
    },
}
"""Makes the foreign keys hold, run by run: what names a removed run."""


def keep_final_states(apps, schema_editor):
    """SQLite builds a changed table anew, and its trigger is gone with the old one."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER IF EXISTS run_outcome_is_final")
        final_states.add_trigger(apps, schema_editor)


def nothing(apps, schema_editor):
    """Back to the start of this migration, SQLite's trigger has been made again."""


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0003_policies")]

    operations = [
        migrations.RunPython(nothing, keep_final_states),
        *(
            migrations.AlterField(
                model_name="taskrun",
                name=name,
                field=models.ForeignKey(
                    db_constraint=False,
                    null=True,
                    on_delete=django.db.models.deletion.SET_NULL,
                    to="tasks_app.taskrun",
                    **options,
                ),
            )
            for name, options in {
                "root": {
                    "related_name": "descendants",
                    "help_text": "The run that began the workflow; empty on that run"
                    " itself.",
                },
                "parent": {"related_name": "children", "db_index": False},
                "rerun_of": {"related_name": "reruns", "db_index": False},
            }.items()
        ),
        migrations.AlterField(
            model_name="runevent",
            name="run",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="events",
                to="tasks_app.taskrun",
            ),
        ),
        migrations.AlterField(
            model_name="runlog",
            name="run",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="logs",
                to="tasks_app.taskrun",
            ),
        ),
        migrations.RunPython(keep_final_states, nothing),
        migrations.RunPython(partition, unpartition),
    ]
