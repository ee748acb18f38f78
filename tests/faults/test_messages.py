"""C3: what the broker carries decides nothing, whoever wrote it, however often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from kombu import Connection

from tests.factories import make_run, make_task
from tests.faults.jobs import Diary
from tests.services import FAST, ended, platform, until

pytestmark = pytest.mark.fault

FORGED: list[dict[str, Any]] = [
    {"runs": 10**30},
    {"runs": -1},
    {"runs": [1]},
    {"run_ids": [1]},
    {"command": "true"},
]


def test_doubled_and_forged_messages_under_load_run_nothing_twice(
    database: None, broker_url: str, tmp_path: Path
) -> None:
    diary = Diary(tmp_path / "diary")
    with platform(broker_url, tmp_path, **FAST) as started:
        workers = [started.worker("one"), started.worker("two")]
        task = make_task(queue=started.queue, command=diary.entry("begins"))
        runs = []
        with Connection(broker_url) as broker:
            for number in range(60):
                runs.append(make_run(task))
                for kwargs in ({"runs": 20}, {"runs": 20}, FORGED[number % 5]):
                    current_app.send_task(
                        "gnomon.doorbell",
                        (),
                        kwargs,
                        queue=started.queue,
                        connection=broker,
                    )
        for run in runs:
            assert ended(run, started).status == "succeeded"
        assert diary.starts() == [(run.pk, 1) for run in runs]
        until(lambda: all(worker.poll() is None for worker in workers), started)
