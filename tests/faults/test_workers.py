"""C2, C4, C5 and C6 with workers that are killed and frozen."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tasks_app.models import Task
from tests.factories import make_run, make_task
from tests.faults.jobs import Diary, assert_no_overlap, wait
from tests.services import FAST, Platform, ended, platform, until

pytestmark = pytest.mark.fault

LEASE_SECONDS = float(FAST["LEASE_SECONDS"])


def repeatable(started: Platform, diary: Diary, **values: Any) -> Task:
    """Its first attempt lives until it is killed, the second succeeds."""
    succeed = "test $GNOMON_ATTEMPT -lt 2 || exit 0;"
    return make_task(
        queue=started.queue,
        command=diary.living(succeed),
        max_attempts=2,
        retry_initial_seconds=0,
        **values,
    )


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_gone_costs_each_run_what_its_task_says(
    by: signal.Signals, database: None, valkey_url: str, tmp_path: Path
) -> None:
    once, twice = Diary(tmp_path / "once"), Diary(tmp_path / "twice")
    with platform(valkey_url, tmp_path, **FAST) as started:
        started.beat()
        victim = started.worker("victim")
        run_once = make_run(make_task(queue=started.queue, command=once.living()))
        run_twice = make_run(repeatable(started, twice))
        until(lambda: once.lines("lives") and twice.lines("lives"), started)
        os.kill(victim.pid, by)
        started.worker("heir")
        assert ended(run_once, started).status == "lost"
        assert ended(run_twice, started).status == "succeeded"
        assert once.starts() == [(run_once.pk, 1)]
        assert twice.starts() == [(run_twice.pk, 1), (run_twice.pk, 2)]
        assert_no_overlap(twice)


def test_the_late_result_of_a_frozen_worker_is_refused_and_kept(
    database: None, valkey_url: str, tmp_path: Path
) -> None:
    diary, go_on = Diary(tmp_path / "diary"), tmp_path / "go-on"
    until_told = f"until test -e {go_on}; do sleep 0.1; done"
    command = (
        f"{diary.entry('begins')}; test $GNOMON_ATTEMPT = 2 || {{ {until_told}; }}"
    )
    with platform(valkey_url, tmp_path, **FAST) as started:
        started.beat()
        frozen = started.worker("frozen")
        lost = make_run(make_task(queue=started.queue, command=until_told))
        repeated = make_run(
            make_task(
                queue=started.queue,
                command=command,
                max_attempts=2,
                retry_initial_seconds=0,
            )
        )
        until(diary.lines, started)
        os.kill(frozen.pid, signal.SIGSTOP)
        go_on.touch()
        started.worker("heir")
        wait(2 * LEASE_SECONDS)
        assert ended(lost, started).status == "lost"
        assert ended(repeated, started).status == "succeeded"
        os.kill(frozen.pid, signal.SIGCONT)
        for run in (lost, repeated):
            late = run.events.filter(kind="stale_result", attempt=1)
            until(late.exists, started)
        before = [
            (run.status, run.attempt, run.completed_at) for run in (lost, repeated)
        ]
        for run in (lost, repeated):
            run.refresh_from_db()
        after = [
            (run.status, run.attempt, run.completed_at) for run in (lost, repeated)
        ]
        assert before == after
        assert diary.starts() == [(repeated.pk, 1), (repeated.pk, 2)]
