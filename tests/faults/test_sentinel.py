"""C3 on Redis Streams: Sentinel makes another server the master under a worker."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.factories import make_task
from tests.services import FAST, platform, until
from tests.workers_app.transports.test_addresses import Watched

pytestmark = pytest.mark.fault


def test_a_worker_follows_the_master(database: None, tmp_path: Path) -> None:
    watched = Watched("valkey", tmp_path)
    (tmp_path / "logs").mkdir()
    # The worker does not look by itself: what runs was rung for.
    settings = {**FAST, "POLL_SECONDS": "3600"}
    try:
        watched.start()
        with platform(watched.url, tmp_path / "logs", **settings) as started:
            started.beat()
            started.worker("sentinel@test")
            task = make_task(queue=started.queue, interval_seconds=1)
            done = task.runs.filter(status="succeeded")
            until(lambda: done.count() >= 2 and watched.replicas() == 1, started, 60)
            watched.master.end(signal.SIGKILL)
            before = task.runs.count()
            until(lambda: done.count() >= before + 3, started, 90)
    finally:
        watched.stop()
