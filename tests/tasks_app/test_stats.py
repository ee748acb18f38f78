"""The figures of the dashboard and of /stats."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tasks_app import ledger
from tasks_app.models import RunTally, TaskRun
from tasks_app.services.tasks import task_pause
from tasks_app.stats import stats
from tests.factories import backdate, claim, end, make_run, make_task, make_worker

pytestmark = pytest.mark.django_db


def test_it_counts_tasks_runs_and_workers() -> None:
    make_worker()
    task, late = make_task(), make_task(cron="0 3 * * *")
    task_pause(task_id=make_task().pk)
    backdate(late, 3 * 86400)
    make_run(task)
    claim(make_run(task))
    found = stats()
    assert (found.tasks_active, found.tasks_paused, found.tasks_late) == (2, 1, 1)
    assert (found.queued, found.running) == (1, 1)
    assert (found.workers_online, found.workers_known) == (2, 2)


def test_the_hours_hold_what_ended_in_them() -> None:
    end(make_run())
    failing = make_task()
    for status in ("failed", "timed_out", "succeeded"):
        end(make_run(failing), status)
    ledger.cancel([make_run().pk], "user:test")
    found = stats()
    assert len(found.hours) == 24
    assert found.hours[-1].hour <= found.at < found.hours[-1].hour + timedelta(hours=1)
    ended = [sum(each) for each in zip(*map(_counts, found.hours[-2:]), strict=True)]
    assert ended == [2, 2, 1]
    assert found.success_percent == 50
    assert found.failing == {failing.pk: 2}


def _counts(hour: object) -> tuple[int, int, int]:
    return (hour.succeeded, hour.failed, hour.other)  # type: ignore[attr-defined]


def test_what_ended_a_day_ago_counts_no_more() -> None:
    end(make_run(), "failed")
    for tally in RunTally.objects.all():
        RunTally.objects.filter(pk=tally.pk).update(
            hour=tally.hour - timedelta(hours=24)
        )
    found = stats()
    assert found.success_percent is None
    assert found.failing == {}


def test_it_reads_ended_runs_nowhere_but_in_the_sums(
    django_assert_num_queries: Callable[..., object],
) -> None:
    for _ in range(3):
        end(make_run())
    sums = stats().succeeded
    TaskRun.objects.all().delete()
    # clock, tasks, workers, late, queued, running, hours, failing, alerts
    with django_assert_num_queries(9):  # type: ignore[attr-defined]
        assert stats().succeeded == sums == 3
