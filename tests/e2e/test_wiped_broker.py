"""C3: the broker is disposable.

In a module of its own: no other beat may ring, on another broker, for its runs.
"""

from __future__ import annotations

from pathlib import Path

from redis import Redis

from tests.factories import make_task
from tests.services import FAST, ended, platform, until


def test_a_wiped_broker_loses_no_run(
    database: None, valkey_url: str, tmp_path: Path
) -> None:
    with platform(valkey_url, tmp_path, **FAST) as started:
        started.beat()
        task = make_task(queue=started.queue, interval_seconds=1)
        broker = Redis.from_url(valkey_url)
        until(lambda: broker.llen(started.queue), started)
        broker.flushall()
        started.worker("late")
        for run in task.runs.all():
            assert ended(run, started).status == "succeeded"
