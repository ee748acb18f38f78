"""C1 with beats that are killed and frozen in the act."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random

import pytest

from tasks_app.models import TaskRun
from tests.factories import make_task
from tests.faults.jobs import assert_every_second_once, wait
from tests.services import FAST, platform, until

pytestmark = pytest.mark.fault

TASKS = 5
ROUNDS = 6


def test_killed_and_frozen_beats_neither_lose_nor_double_a_fire(
    database: None, valkey_url: str, tmp_path: Path
) -> None:
    random = Random(20311)
    with platform(valkey_url, tmp_path, **FAST) as started:
        beats = [started.beat() for _ in range(3)]
        tasks = [
            make_task(queue=started.queue, interval_seconds=1) for _ in range(TASKS)
        ]
        until(lambda: TaskRun.objects.count() >= TASKS, started)
        for _ in range(ROUNDS):
            # At any moment of a second: also while it holds the tasks' rows.
            wait(random.uniform(0.4, 1.4))
            frozen, killed = random.sample(range(3), 2)
            os.kill(beats[frozen].pid, signal.SIGSTOP)
            os.kill(beats[killed].pid, signal.SIGKILL)
            wait(random.uniform(0.5, 2.0))
            os.kill(beats[frozen].pid, signal.SIGCONT)
            beats[killed] = started.beat()
        seen = TaskRun.objects.count()
        until(lambda: TaskRun.objects.count() >= seen + 2 * TASKS, started)
    for task in tasks:
        assert_every_second_once(task)
        assert task.runs.count() >= ROUNDS
