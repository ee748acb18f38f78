"""Migrations of a database that is in use: nothing is lost on the way, or back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from tasks_app import ledger
from tasks_app.ledger.dialects import fetch
from tasks_app.models import RunEvent, RunLog, TaskRun
from tests.factories import end, make_run, make_task
from tests.tasks_app.ledger.test_tallies import counted, told

TABLES = ("tasks_app_taskrun", "tasks_app_runevent", "tasks_app_runlog")


def migrate(name: str | None = None) -> None:
    """To a migration of tasks_app; to the newest of all apps without one."""
    executor = MigrationExecutor(connection)
    leaves = [leaf for leaf in executor.loader.graph.leaf_nodes() if name is None]
    executor.migrate(leaves or [("tasks_app", str(name))])


@pytest.fixture
def to_newest(committed: None) -> Iterator[None]:
    yield
    migrate()


def content() -> list[list[tuple[Any, ...]]]:
    columns = {
        "tasks_app_taskrun": "id, task_id, status, root_id, parent_id, rerun_of_id,"
        " scheduled_for, completed_at, params, result",
        "tasks_app_runevent": "id, run_id, at, kind, status",
        "tasks_app_runlog": "id, run_id, attempt, seq, text",
    }
    return [
        fetch(f"SELECT {columns[table]} FROM {table} ORDER BY id") for table in TABLES
    ]


def fire_again(run: TaskRun) -> list[int]:
    return ledger.create(
        [
            ledger.NewRun(
                *(run.task_id, run.version_id, "schedule", run.queue),
                scheduled_for=run.scheduled_for,
            )
        ]
    )


def some_history() -> TaskRun:
    """A workflow that has ended, with output, and a rerun; returns its root."""
    parent = make_task()
    make_task(parent)
    root = make_run(parent, trigger="schedule")
    ledger.append_logs([ledger.LogChunk(root.pk, 1, 1, "stdout", "out")])
    end(root)
    end(TaskRun.objects.get(parent=root))
    ledger.create(
        [ledger.NewRun(parent.pk, root.version_id, "rerun", "x", rerun_of_id=root.pk)]
    )
    return root


def name_no_run(table: str, key: str) -> None:
    fetch(f"UPDATE {table} SET {key} = 999")
    connection.check_constraints()


@pytest.mark.usefixtures("to_newest")
def test_the_runs_of_before_are_rolled_up() -> None:
    some_history()
    migrate("0004_partitions")
    migrate()
    assert told() == counted() != {}


@pytest.mark.usefixtures("to_newest")
class TestPartitions:
    def test_history_goes_back_and_forth(self) -> None:
        root = some_history()
        before = content()
        migrate("0003_policies")
        assert content() == before
        migrate("0004_partitions")
        assert content() == before
        migrate()

        assert fire_again(root) == []
        with pytest.raises(DatabaseError), transaction.atomic():
            TaskRun.objects.filter(pk=root.pk).update(status="failed")
        (new_id,) = ledger.create(
            [ledger.NewRun(root.task_id, root.version_id, "api", "x")]
        )
        assert new_id > TaskRun.objects.exclude(pk=new_id).latest("pk").pk

    def test_what_guarded_the_tables_does_so_again_after_the_way_back(self) -> None:
        root = some_history()
        migrate("0003_policies")
        run = TaskRun.objects.filter(pk=root.pk)
        with pytest.raises(DatabaseError), transaction.atomic():
            run.update(status="failed")
        for table, key in zip(TABLES, ("parent_id", "run_id", "run_id"), strict=True):
            with pytest.raises(IntegrityError), transaction.atomic():
                name_no_run(table, key)
        twin = run.get()
        twin.pk = None
        with pytest.raises(IntegrityError), transaction.atomic():
            twin.save()

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL")
    def test_no_row_is_copied_on_the_way(self) -> None:
        some_history()
        migrate("0003_policies")
        files = fetch(
            "SELECT pg_relation_filenode(t) FROM unnest(%s::text[]) t", list(TABLES)
        )
        migrate("0004_partitions")
        firsts = [f"{table}_first" for table in TABLES]
        assert files == fetch(
            "SELECT pg_relation_filenode(t) FROM unnest(%s::text[]) t", firsts
        )

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL")
    def test_the_way_back_forgets_the_names_of_removed_runs(self) -> None:
        root = some_history()
        child = TaskRun.objects.get(root=root)
        fetch("DELETE FROM tasks_app_taskrun WHERE id = %s", root.pk)
        migrate("0003_policies")
        assert not RunEvent.objects.filter(run=root.pk).exists()
        assert not RunLog.objects.filter(run=root.pk).exists()
        assert not TaskRun.objects.filter(rerun_of=root.pk).exists()
        assert TaskRun.objects.get(pk=child.pk).root_id is None
