"""How soon a triggered run starts on a platform that has nothing else to do."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice

import httpx2

from scheduler_project.bench.rig import READY_SECONDS, Rig
from scheduler_project.bench.workload import (
    BenchError,
    delays_ms,
    runs_delete,
    version_create,
    wait_for_count,
    wait_for_end,
)
from scheduler_project.local.bootstrap import ADMIN
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.supervisor import NotReadyError, Supervisor

WARM_UP_RUNS = 10
"""Triggered first and not counted: connections are made, code is loaded."""
PAUSES_SECONDS = (0.02, 0.03, 0.04, 0.05)
"""Between two triggers, in turns, so that they keep no step with anything."""
REQUEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Delays:
    """Queued to started, in ms. `way`: how the runs were triggered."""

    milliseconds: Sequence[float]
    way: str

    def percentile(self, percent: int) -> float:
        """By nearest rank: the value of a run, not one in between."""
        rank = math.ceil(len(self.milliseconds) * percent / 100)
        return sorted(self.milliseconds)[rank - 1]


def latency(rig: Rig, *, runs: int) -> Delays:
    """Trigger `runs` runs one after another and read from their rows how soon each
    has started."""
    runs_delete()
    total = WARM_UP_RUNS + runs
    with rig.queue() as queue, rig.services() as services:
        task_id = version_create(queue).task_id
        rig.start_workers(services, queue, 1)
        rig.start_beat(services)
        way = _trigger(rig, services, task_id, total)
        wait_for_end(services, total)
    return Delays(delays_ms(WARM_UP_RUNS), way)


def _trigger(rig: Rig, services: Supervisor, task_id: int, runs: int) -> str:
    """Trigger runs by the API, or without it where it cannot be had; returns how."""
    try:
        api = _signed_in(rig, services)
    except _NoApiError as error:
        rig.start_trigger(services, task_id, runs)
        wait_for_count(services, runs)
        return f"by the service without the API, for {error}"
    with closing(api):
        for pause_seconds in islice(cycle(PAUSES_SECONDS), runs):
            answer = api.post(f"/api/v1/tasks/{task_id}/runs", json={})
            if not answer.is_success:
                raise BenchError(
                    f"the API answered {answer.status_code}: {answer.text}"
                )
            time.sleep(pause_seconds)
    return "by the API"


class _NoApiError(PlatformError):
    """The web service cannot be used."""


def _signed_in(rig: Rig, services: Supervisor) -> httpx2.Client:
    """Start the web service and sign in.

    Raises:
        _NoApiError: it does not start, or knows no such address.
    """
    url = rig.start_web(services)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # else a line a request
    api = httpx2.Client(base_url=url, timeout=REQUEST_SECONDS)
    try:
        services.wait_until(lambda: _answers(api), "web", READY_SECONDS)
    except NotReadyError as error:
        raise _NoApiError(str(error)) from error
    answer = api.post(
        "/api/v1/auth/token", json={"username": ADMIN, "password": rig.password}
    )
    if not answer.is_success:
        raise _NoApiError(f"signing in was answered with {answer.status_code}")
    api.headers["Authorization"] = f"Bearer {answer.json()['access']}"
    return api


def _answers(api: httpx2.Client) -> bool:
    try:
        return api.get("/readyz").status_code in {200, 404}
    except httpx2.HTTPError:
        return False
