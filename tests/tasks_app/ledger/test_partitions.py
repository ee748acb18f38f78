"""Months of history: made ahead, dropped as a whole, and where each run is kept."""

from __future__ import annotations

import re
import threading
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection, transaction

from tasks_app import ledger
from tasks_app.ledger import pruning
from tasks_app.ledger.dialects import database_now, fetch
from tasks_app.ledger.partitions import (
    DEFAULT,
    Partition,
    create_ahead,
    drop,
    partitions,
)
from tasks_app.models import RunEvent, RunLog, Task, TaskRun
from tasks_app.rules import run_ids
from tasks_app.rules.run_ids import day_of
from tests.factories import ask, end, make_run, make_task

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="SQLite has no partitions"
    ),
]

MARCH = datetime(2025, 3, 15, 12, tzinfo=UTC)


def names() -> list[str]:
    return [partition.name for partition in partitions()]


def by_name(name: str) -> Partition:
    (found,) = [each for each in partitions() if each.name == name]
    return found


def leaf_of(run_id: int, table: str = "tasks_app_taskrun", key: str = "id") -> str:
    ((name,),) = fetch(
        f"SELECT DISTINCT tableoid::regclass::text FROM {table} WHERE {key} = %s",
        run_id,
    )
    return str(name).removeprefix(f"{table}_")


def fire(task: Task, at: datetime) -> list[int]:
    return ledger.create(
        [
            ledger.NewRun(
                task_id=task.pk,
                version_id=task.versions.get().pk,
                trigger="schedule",
                queue="default",
                scheduled_for=at,
            )
        ]
    )


def make_month(first: date, after: date) -> Partition:
    """A month in the past, cut out of the first partition."""
    until = by_name("first").end
    assert until
    first_id, after_id, end_id = map(run_ids.first_id, (first, after, until))
    for table in ("tasks_app_taskrun", "tasks_app_runevent", "tasks_app_runlog"):
        fetch(f"ALTER TABLE {table} DETACH PARTITION {table}_first")
        for name, begin, finish in (
            ("first", "MINVALUE", str(first_id)),
            (f"{first:%Y%m}", str(first_id), str(after_id)),
            ("since", str(after_id), str(end_id)),
        ):
            leaf = f"{table}_{name}"
            fetch(
                f"CREATE TABLE IF NOT EXISTS {leaf}"
                f" (LIKE {table}_{DEFAULT} INCLUDING ALL)"
            )
            fetch(
                f"ALTER TABLE {table} ATTACH PARTITION {leaf}"
                f" FOR VALUES FROM ({begin}) TO ({finish})"
            )
    return by_name(f"{first:%Y%m}")


@pytest.fixture
def march(db: None) -> Partition:
    return make_month(date(2025, 3, 1), date(2025, 4, 1))


class TestNumbers:
    def test_a_fire_is_of_the_day_of_its_nominal_time(self) -> None:
        (run_id,) = fire(make_task(), MARCH)
        assert day_of(run_id) == MARCH.date()

    def test_the_day_is_that_of_utc(self) -> None:
        tokyo = datetime.fromisoformat("2025-03-02T08:59:59+09:00")
        (run_id,) = fire(make_task(), tokyo)
        assert day_of(run_id) == date(2025, 3, 1)

    def test_a_run_by_hand_is_of_today(self) -> None:
        assert day_of(make_run().pk) == database_now().date()

    def test_a_rerun_of_an_old_fire_is_of_today(self) -> None:
        task = make_task()
        (old,) = fire(task, MARCH)
        (new,) = ledger.create(
            [
                ledger.NewRun(
                    *(task.pk, task.versions.get().pk, "rerun", "default"),
                    scheduled_for=MARCH,
                    rerun_of_id=old,
                )
            ]
        )
        assert day_of(new) == database_now().date()

    def test_a_workflow_is_of_the_day_of_its_root(self) -> None:
        parent = make_task()
        child = make_task(make_task(parent))
        (root_id,) = fire(parent, MARCH)
        for _ in range(2):
            (claimed,) = ask()
            end_of(claimed.run_id)
        below = TaskRun.objects.get(task=child)
        assert (below.root_id, day_of(below.pk)) == (root_id, MARCH.date())
        assert below.pk > root_id

    def test_numbers_of_a_day_go_up(self) -> None:
        runs = [make_run().pk for _ in range(3)]
        assert runs == sorted(runs)


def end_of(run_id: int) -> None:
    ledger.finish([ledger.Finish(run_id, 1, "succeeded")])


class TestKeys:
    def test_a_fire_exists_once_whenever_it_is_planned(self, march: Partition) -> None:
        task = make_task()
        (run_id,) = fire(task, MARCH)
        assert leaf_of(run_id) == march.name
        assert fire(task, MARCH) == []

    def test_a_fire_exists_once_in_the_default_partition(self) -> None:
        task, far = make_task(), datetime(2080, 1, 1, tzinfo=UTC)
        (run_id,) = fire(task, far)
        assert leaf_of(run_id) == DEFAULT
        assert fire(task, far) == []

    def test_events_and_logs_are_kept_with_their_run(self, march: Partition) -> None:
        (run_id,) = fire(make_task(), MARCH)
        ledger.append_logs([ledger.LogChunk(run_id, 1, 1, "stdout", "x")])
        assert leaf_of(run_id, "tasks_app_runevent", "run_id") == march.name
        assert leaf_of(run_id, "tasks_app_runlog", "run_id") == march.name


GUARDS = (
    """SELECT substring(pg_get_indexdef(indexrelid) FROM 'USING.*') || indisunique
    FROM pg_index WHERE indrelid = %s::regclass""",
    """SELECT pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = %s::regclass""",
    """SELECT tgname FROM pg_trigger
    WHERE tgrelid = %s::regclass AND tgname = 'run_outcome_is_final'""",
)


class TestAhead:
    def test_this_month_and_the_next_two_are_there(self) -> None:
        create_ahead()
        today = database_now().date()
        for months in range(3):
            day = (today.replace(day=1) + timedelta(days=31 * months)).replace(day=15)
            assert any(
                (each.begin or date.min) <= day < (each.end or date.min)
                for each in partitions()
            )

    def test_a_missing_one_is_made_once_and_takes_its_rows(self) -> None:
        last = partitions()[-2]
        assert last.begin
        drop(last)
        task = make_task()
        (run_id,) = fire(task, datetime.combine(last.begin, datetime.min.time(), UTC))
        assert leaf_of(run_id) == DEFAULT
        assert create_ahead() == []  # the run has not ended: it stays where it is
        ledger.cancel([run_id], "test")
        assert create_ahead() == [last.name]
        assert leaf_of(run_id) == last.name
        assert leaf_of(run_id, "tasks_app_runevent", "run_id") == last.name
        assert create_ahead() == []
        assert fire(task, TaskRun.objects.get(pk=run_id).scheduled_for) == []

    def test_a_new_one_guards_its_runs_as_the_others_do(self) -> None:
        drop(partitions()[-2])
        create_ahead()
        new = names()[-2]
        for guard in GUARDS:
            found = [
                sorted(re.sub(name, "", row[0]) for row in fetch(guard, leaf))
                for name in (new, DEFAULT, "first")
                for leaf in [f"tasks_app_taskrun_{name}"]
            ]
            assert found[0]
            assert found[0] == found[1] == found[2]


class TestDrop:
    def test_it_takes_runs_events_and_logs(self, march: Partition) -> None:
        (run_id,) = fire(make_task(), MARCH)
        ledger.append_logs([ledger.LogChunk(run_id, 1, 1, "stdout", "x")])
        ledger.cancel([run_id], "test")
        kept = end(make_run())
        fetch("SET CONSTRAINTS ALL IMMEDIATE")
        assert drop(march)
        assert march.name not in names()
        assert list(TaskRun.objects.values_list("pk", flat=True)) == [kept.pk]
        assert not RunEvent.objects.filter(run=run_id).exists()
        assert not RunLog.objects.filter(run=run_id).exists()

    def test_an_unfinished_run_keeps_it(self, march: Partition) -> None:
        (run_id,) = fire(make_task(), MARCH)
        assert not drop(march)
        assert leaf_of(run_id) == march.name


class TestPruning:
    def plan(self, condition: str) -> str:
        rows = fetch(f"EXPLAIN SELECT 1 FROM tasks_app_taskrun WHERE true {condition}")
        return "\n".join(row[0] for row in rows)

    def test_unfinished_runs_are_sought_in_their_months_only(
        self, march: Partition
    ) -> None:
        pruning.forget()
        make_run()
        assert march.name not in self.plan(pruning.unfinished())
        assert DEFAULT not in self.plan(pruning.unfinished())

    def test_an_old_fire_is_found_by_whoever_created_it(self, march: Partition) -> None:
        pruning.forget()
        ask()
        (run_id,) = fire(make_task(), MARCH)
        assert [run.run_id for run in ask()] == [run_id]

    def test_an_old_fire_is_found_by_others_when_they_read_again(self) -> None:
        (run_id,) = fire(make_task(), MARCH)
        pruning.forget()
        assert [run.run_id for run in ask()] == [run_id]

    def test_a_run_from_a_clock_that_ran_ahead_is_found(self) -> None:
        (run_id,) = fire(make_task(), datetime(2080, 1, 1, tzinfo=UTC))
        pruning.forget()
        assert [run.run_id for run in ask()] == [run_id]

    def test_one_end_opens_one_month(self, march: Partition) -> None:
        (run_id,) = fire(make_task(), MARCH)
        assert self.plan(pruning.among([run_id])).count(" on tasks_app_taskrun") == 1


@pytest.mark.usefixtures("committed")
def test_a_drop_gives_up_where_others_hold_the_table() -> None:
    last = partitions()[-2]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            fetch("SELECT 1 FROM tasks_app_taskrun LIMIT 1")
            held.set()
            done.wait(20)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(20)
        assert not drop(last)
    finally:
        done.set()
        holder.join()
    assert last.name in names()
    assert drop(last)
    assert create_ahead() == [last.name]
