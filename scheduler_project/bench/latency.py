"""How soon a triggered run starts on a platform that has nothing else to do."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice

from scheduler_project.bench.api import Api, api_start
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import (
    BenchError,
    delays_ms,
    runs_delete,
    version_create,
    wait_for_end,
)

WARM_UP_RUNS = 10
"""Triggered first and not counted: connections are made, code is loaded."""
PAUSES_SECONDS = (0.02, 0.03, 0.04, 0.05)
"""Between two triggers, in turns, so that they keep no step with anything."""
TARGETS_MS = {50: None, 99: 10.0, 100: None}
"""By percentile."""


def latency(rig: Rig, *, runs: int) -> Iterator[Row]:
    """Trigger `runs` runs by the API, one after another, and read from their rows how
    soon each has started."""
    runs_delete()
    total = WARM_UP_RUNS + runs
    with rig.queue() as queue, rig.services() as services:
        task_id = version_create(queue).task_id
        rig.start_workers(services, queue, 1)
        rig.start_beat(services)
        _trigger(api_start(rig, services), task_id, total)
        wait_for_end(services, total)
    yield from delay_rows("Trigger to start", delays_ms(WARM_UP_RUNS), TARGETS_MS)


def delay_rows(
    name: str, milliseconds: Sequence[float], targets_ms: Mapping[int, float | None]
) -> Iterator[Row]:
    """A row for each percentile in `targets_ms`; 100 is the largest of all."""
    for percent, target in targets_ms.items():
        label = "max" if percent == 100 else f"P{percent}"
        value = percentile(milliseconds, percent)
        yield Row(f"{name}, {label}", value, "ms", target, is_delay=True)


def percentile(values: Sequence[float], percent: int) -> float:
    """By nearest rank: a value that was measured, not one in between."""
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[rank - 1]


def _trigger(api: Api, task_id: int, runs: int) -> None:
    with api.client() as client:
        for pause_seconds in islice(cycle(PAUSES_SECONDS), runs):
            answer = client.post(f"/api/v1/tasks/{task_id}/runs", json={})
            if not answer.is_success:
                raise BenchError(
                    f"the API answered {answer.status_code}: {answer.text}"
                )
            time.sleep(pause_seconds)
