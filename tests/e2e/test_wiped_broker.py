"""C3: the broker is disposable.

In a module of its own: no other beat may ring, on another broker, for its runs.
"""

from __future__ import annotations

from pathlib import Path

from redis import Redis

from tests.factories import make_run, make_task
from tests.services import FAST, ended, platform, until


def test_a_wiped_broker_loses_no_run(
    database: None, valkey_url: str, tmp_path: Path
) -> None:
    with platform(valkey_url, tmp_path, **FAST) as started:
        started.beat()
        task = make_task(queue=started.queue)
        runs = [make_run(task) for _ in range(20)]
        until(lambda: not task.runs.filter(published_at=None).exists(), started)
        Redis.from_url(valkey_url).flushall()
        started.worker("late")
        for run in runs:
            assert ended(run, started).status == "succeeded"
