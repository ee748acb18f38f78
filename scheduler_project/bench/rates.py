"""How soon runs start that come at a steady rate, whatever waits already."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import httpx2

from scheduler_project.bench.api import Api, api_start
from scheduler_project.bench.latency import delay_rows
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import (
    SLOTS,
    BenchError,
    created_a_second,
    delays_ms,
    runs_delete,
    version_create,
    wait_for_end,
)
from scheduler_project.local.supervisor import Supervisor
from tasks_app.models import TaskVersion

P99_MS: Mapping[int, float] = {167: 10, 1_000: 25, 1_300: 100}
"""The target by the rate, in runs a second; 167 are 10,000 a minute."""
API_RATE = 167
WARM_UP_SECONDS = 1
"""Of arrivals before those that count."""
KEPT_UP = 0.98
"""This part of a rate has to be created, or the delays are of another rate."""


def rates(rig: Rig, *, seconds: int) -> Iterator[Row]:
    """Create runs at each rate for `seconds`, by the ledger, and at one by the API."""
    with rig.queue() as queue, rig.services() as services:
        version = version_create(queue)
        rig.start_workers(
            services, queue, rig.plan.workers, WORKER_CONCURRENCY=str(SLOTS)
        )
        rig.start_beat(services)
        for rate in P99_MS:
            runs_delete()
            rig.produce(services, version.pk, rate, WARM_UP_SECONDS + seconds)
            yield from _rows(rig, services, f"at {rate:,}/s", rate)
        runs_delete()
        _post_steadily(rig, services, version, WARM_UP_SECONDS + seconds)
        yield from _rows(rig, services, f"at {API_RATE}/s by the API", API_RATE)


def _rows(rig: Rig, services: Supervisor, how: str, rate: int) -> Iterator[Row]:
    """What the rows say, when all of them have ended."""
    wait_for_end(services, rate)
    delays = delays_ms(rate * WARM_UP_SECONDS)
    rig.plan.tell(f"{len(delays)} runs {how}.")
    targets = {50: None, 99: P99_MS[rate], 100: None}
    yield from delay_rows(f"Queued to started {how}", delays, targets)
    yield Row(f"Created {how}", created_a_second(), "runs/s", KEPT_UP * rate)


def _post_steadily(
    rig: Rig, services: Supervisor, version: TaskVersion, seconds: int
) -> None:
    api = api_start(rig, services)
    asyncio.run(_post_all(api, f"/api/v1/tasks/{version.task_id}/runs", seconds))


async def _post_all(api: Api, path: str, seconds: int) -> None:
    """Post API_RATE times a second, whether or not the last answer has come.

    Raises:
        BenchError: an answer is an error, or does not come.
    """
    loop = asyncio.get_running_loop()
    began, posts = loop.time(), []
    async with api.async_client() as client:
        for number in range(API_RATE * seconds):
            await asyncio.sleep(began + number / API_RATE - loop.time())
            posts.append(asyncio.create_task(client.post(path, json={})))
        try:
            answers = await asyncio.gather(*posts)
        except httpx2.HTTPError as error:
            raise BenchError(f"no answer from the API: {error!r}") from error
    for answer in answers:
        if not answer.is_success:
            raise BenchError(f"the API answered {answer.status_code}: {answer.text}")
