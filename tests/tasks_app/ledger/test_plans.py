"""Creations, claims and ends cost what they make, take and end, however many rows there
are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, DataError, connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks_app import ledger
from tasks_app.ledger import ClaimedRun, Finish
from tasks_app.ledger.plans import FOR_THE_TRANSACTION
from tasks_app.models import Task, TaskRun
from tests.factories import ask, backdate, make_run, make_task, make_worker

pytestmark = [
    pytest.mark.usefixtures("committed"),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL"),
]
FEW = 10
"""Rows: more than the three of a claim, and less than a backlog."""


@pytest.fixture(autouse=True)
def connection_of_its_own(committed: None) -> Iterator[None]:
    """The settings of a claimant's connection are not for other tests."""
    connection.close()
    yield
    connection.close()


def backlog(run: TaskRun, runs: int = 2000) -> None:
    """More queued runs like this one; the database has no statistics of them."""
    new = ledger.NewRun(run.task_id, run.version_id, "api", run.queue)
    ledger.create([new] * runs)


def create_one(run: TaskRun) -> None:
    new = ledger.NewRun(run.task_id, run.version_id, "api", run.queue)
    ledger.create([new])


def end_all(claimed: list[ClaimedRun]) -> None:
    ledger.finish([Finish(run.run_id, run.attempt, "succeeded") for run in claimed])


def sql_of(act: Callable[[], object]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        act()
    return [str(query["sql"]) for query in captured]


def planned_by(act: Callable[[], object]) -> list[str]:
    """Those of its statements whose plan is kept, without the settings before them."""
    made = [sql.removeprefix(FOR_THE_TRANSACTION) for sql in sql_of(act)]
    return [sql for sql in made if sql.startswith("EXECUTE")]


def most_rows(statement: str) -> float:
    """The most rows that any step of a statement comes to, or leaves out again."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(FOR_THE_TRANSACTION)
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        ((plan,),) = cursor.fetchone()
    return max(_rows(plan["Plan"]))


def _rows(plan: dict[str, Any]) -> Iterator[float]:
    left_out = (plan[key] for key in plan if key.startswith("Rows Removed"))
    yield float((plan["Actual Rows"] + sum(left_out)) * plan["Actual Loops"])
    for step in plan.get("Plans", ()):
        yield from _rows(step)


@pytest.mark.parametrize("is_behind_a_pooler", [True, False])
def test_a_claim_reads_what_it_takes_and_not_the_backlog(
    settings: Any, *, is_behind_a_pooler: bool
) -> None:
    settings.DATABASE_POOLER = is_behind_a_pooler
    backlog(make_run())
    *_, claim = sql_of(lambda: ask(3))
    assert claim.startswith("EXECUTE") != is_behind_a_pooler
    assert most_rows(claim) <= FEW


def test_plans_that_were_made_for_few_runs_are_good_for_many() -> None:
    run, worker = make_run(), make_worker()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_taskrun")
    end_all(ask(3, worker))
    backlog(run)
    claimed: list[ClaimedRun] = []
    (claim,) = sql_of(lambda: claimed.extend(ask(3, worker)))[-1:]
    (end,) = (sql for sql in sql_of(lambda: end_all(claimed)) if "EXECUTE" in sql)
    assert len(claimed) == 3
    assert max(most_rows(claim), most_rows(end)) <= FEW


def test_what_was_planned_once_is_not_planned_again() -> None:
    backlog(make_run(), 9)
    worker = make_worker()
    end_all(ask(3, worker))
    again = sql_of(lambda: end_all(ask(2, worker)))
    assert not [sql for sql in again if sql.startswith("PREPARE")]
    assert sum(sql.startswith("EXECUTE") for sql in again) == 2


def test_a_creation_that_was_planned_for_few_rows_is_good_for_many() -> None:
    run = make_run()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_taskrun, tasks_app_task")
    create_one(run)
    end_all(ask(2))
    backlog(make_run(), 2000)  # of another task, and nobody has counted them
    policies, row = planned_by(lambda: create_one(run))
    assert max(most_rows(policies), most_rows(row)) <= FEW


def test_a_creation_is_planned_once_and_leaves_the_connection_as_it_was() -> None:
    run = make_run()
    create_one(run)
    again = sql_of(lambda: create_one(run))
    assert not [sql for sql in again if sql.startswith("PREPARE")]
    assert sum("EXECUTE" in sql for sql in again) == 2
    with connection.cursor() as cursor:
        cursor.execute("SHOW enable_seqscan")
        assert cursor.fetchone() == ("on",)


def test_a_look_for_due_tasks_reads_what_is_due_and_not_all_that_is_scheduled() -> None:
    due = make_task(interval_seconds=3600)
    later = ledger.database_now() + timedelta(days=1)
    Task.objects.bulk_create(
        Task(
            **{
                **{f.attname: getattr(due, f.attname) for f in Task._meta.fields},
                "id": None,
                "name": f"later-{number}",
                "schedule_id": None,
                "next_fire_at": later,
            }
        )
        for number in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_app_task")
    backdate(due, 3601)
    look, *_ = planned_by(ledger.plan)
    backdate(due, 3601)
    assert most_rows(look) <= FEW


def test_behind_a_pooler_a_creation_keeps_nothing(settings: Any) -> None:
    settings.DATABASE_POOLER = True
    run = make_run()
    assert planned_by(lambda: create_one(run)) == []


def test_a_plan_that_is_gone_costs_one_claim() -> None:
    backlog(make_run(), 9)
    worker = make_worker()
    assert len(ask(1, worker)) == 1
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    with pytest.raises(DatabaseError):
        ask(1, worker)
    assert len(ask(1, worker)) == 1


def test_a_row_that_is_refused_costs_no_plan() -> None:
    run = make_run()
    create_one(run)
    refused = ledger.NewRun(
        run.task_id, run.version_id, "api", run.queue, triggered_by="x" * 201
    )
    with pytest.raises(DataError):
        ledger.create([refused])
    again = sql_of(lambda: create_one(run))
    assert not [sql for sql in again if sql.startswith("PREPARE")]


def test_few_plans_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks_app.ledger.plans.MAX_KEPT", 1)
    backlog(make_run(), 9)
    for _ in range(2):
        claimed = ask(2)
        assert len(claimed) == 2
        end_all(claimed)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone()[0] == 1
