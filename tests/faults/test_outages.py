"""C3, C6 and C14: servers that are killed under load, and come back."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest
from django.db import connection
from redis import Redis

from tasks_app.models import TaskRun
from tasks_app.services.tasks import task_pause
from tests.factories import make_run, make_task
from tests.faults.jobs import (
    Diary,
    assert_every_second_once,
    assert_no_overlap,
    assert_one_outcome_each,
    wait,
)
from tests.faults.servers import Killable
from tests.services import FAST, ended, platform, until

pytestmark = pytest.mark.fault

LEASE_SECONDS = float(FAST["LEASE_SECONDS"])


def test_a_killed_and_emptied_broker_loses_no_run_and_repeats_none(
    database: None, own_broker: Killable, folder: Path, tmp_path: Path
) -> None:
    diary = Diary(tmp_path / "diary")
    with platform(own_broker.url, tmp_path, **FAST) as started:
        started.beat()
        started.worker()
        every = make_task(
            queue=started.queue, command=diary.entry("begins"), interval_seconds=1
        )
        task = make_task(queue=started.queue, command=diary.entry("begins"))
        runs = [make_run(task) for _ in range(5)]
        until(lambda: every.runs.filter(status="succeeded").count() >= 2, started)
        own_broker.end(signal.SIGKILL)
        runs += [make_run(task) for _ in range(10)]
        for run in runs:  # by the workers' own look, with no broker at all
            assert ended(run, started).status == "succeeded"
        shutil.rmtree(folder / "broker" / "valkey" / "appendonlydir")
        own_broker.start()
        broker = Redis.from_url(own_broker.url)
        until(lambda: broker.client_list(_type="normal")[1:], started)
        runs += [make_run(task) for _ in range(5)]
        for run in runs:
            assert ended(run, started).status == "succeeded"
        task_pause(task_id=every.pk)
        until(lambda: not TaskRun.objects.unfinished().exists(), started)
        assert_every_second_once(every)
        assert_one_outcome_each()
        ran = TaskRun.objects.order_by("id").values_list("id", flat=True)
        assert diary.starts() == [(run_id, 1) for run_id in ran]


def test_a_database_that_stops_at_once_under_load_loses_and_repeats_nothing(
    own_database: Killable, own_broker: Killable, tmp_path: Path
) -> None:
    diary = Diary(tmp_path / "diary")
    with platform(own_broker.url, tmp_path, **FAST) as started:
        started.beat()
        started.beat()
        started.worker("one")
        started.worker("two")
        every = make_task(
            queue=started.queue, command=diary.entry("begins"), interval_seconds=1
        )
        slow = make_task(
            queue=started.queue, command=f"{diary.entry('begins')}; sleep 0.5"
        )
        until(lambda: every.runs.filter(status="succeeded").exists(), started)
        runs = []
        for _ in range(2):
            runs += [make_run(slow) for _ in range(15)]
            connection.close()
            own_database.end(signal.SIGQUIT)  # `pg_ctl stop -m immediate`
            own_database.start()
            until(lambda: TaskRun.objects.filter(status="running").exists, started)
        for run in runs:
            assert ended(run, started).status == "succeeded"
        count = every.runs.count()
        until(lambda: every.runs.count() >= count + 2, started)
        task_pause(task_id=every.pk)
        until(lambda: not TaskRun.objects.unfinished().exists(), started)
        assert_every_second_once(every)
        assert_one_outcome_each()
        starts = diary.starts()
        assert len(set(starts)) == len(starts)
        assert {attempt for _run_id, attempt in starts} == {1}


def test_a_database_away_for_over_a_lease_stops_only_what_may_be_repeated(
    own_database: Killable, own_broker: Killable, tmp_path: Path
) -> None:
    once, twice = Diary(tmp_path / "once"), Diary(tmp_path / "twice")
    with platform(own_broker.url, tmp_path, **FAST) as started:
        started.beat()
        started.worker()
        run_once = make_run(
            make_task(
                queue=started.queue,
                command=f"{once.entry('begins')}; sleep 7; {once.entry('ends')}",
            )
        )
        run_twice = make_run(
            make_task(
                queue=started.queue,
                command=twice.living("test $GNOMON_ATTEMPT = 1 || exit 0;"),
                max_attempts=3,
                retry_initial_seconds=0,
            )
        )
        until(lambda: once.lines() and twice.lines("lives"), started)
        connection.close()
        own_database.end(signal.SIGQUIT)
        away = time.time()
        wait(1.5 * LEASE_SECONDS)
        last = max(line.at for line in twice.lines())
        own_database.start()
        assert last < away + LEASE_SECONDS
        assert ended(run_twice, started).status == "succeeded"
        assert ended(run_once, started).status == "succeeded"
        assert (run_once.attempt, len(once.lines("ends"))) == (1, 1)
        assert run_twice.attempt >= 2
        assert_no_overlap(twice)
        assert_one_outcome_each()
