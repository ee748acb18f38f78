"""The history's upkeep: what one round does, and that it keeps nobody waiting."""

from __future__ import annotations

import pytest
from django.db import DatabaseError

from tasks_app.ledger import partitions
from tasks_app.models import RunTally, Task, TaskRun
from tests.factories import end, make_run, make_task
from tests.tasks_app.ledger.test_retention import old_run
from workers_app.history import HistoryKeeper

pytestmark = pytest.mark.usefixtures("committed")


def task_that_keeps_a_week() -> Task:
    """One whose runs wait for no month, for another keeps its own for ever."""
    make_task(retention_days=0)
    return make_task(retention_days=7)


def one_round(keeper: HistoryKeeper) -> None:
    keeper.tick()
    keeper.wait()


def test_a_round_removes_folds_and_makes_months() -> None:
    task = task_that_keeps_a_week()
    old = old_run(task, 10)
    last = [each for each in partitions.partitions() if each.end][-1:]
    for partition in last:
        partitions.drop(partition)
    for _ in range(2):
        end(make_run(task))
    one_round(HistoryKeeper())
    assert not TaskRun.objects.filter(pk=old).exists()
    assert TaskRun.objects.count() == 2
    assert RunTally.objects.get().runs == 3
    assert {each.name for each in last} <= {
        each.name for each in partitions.partitions()
    }


def test_a_round_follows_the_last_one_only_after_a_while() -> None:
    keeper = HistoryKeeper()
    one_round(keeper)
    task = make_task()
    for _ in range(2):
        end(make_run(task))
    one_round(keeper)
    assert RunTally.objects.count() == 2


def test_a_round_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = HistoryKeeper()
    with monkeypatch.context() as broken:

        def fail(_since: object) -> int:
            raise DatabaseError("away")

        broken.setattr("workers_app.history.tallies.fold", fail)
        one_round(keeper)
    keeper._fold_at = 0.0  # a minute later
    old = old_run(task_that_keeps_a_week(), 10)
    one_round(keeper)
    assert not TaskRun.objects.filter(pk=old).exists()
