"""Shell runs per second, by the product and by the stock way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from scheduler_project.bench.rig import Rig
from scheduler_project.bench.stock_tasks import backlog_publish
from scheduler_project.bench.workload import (
    backlog_create,
    rate,
    runs_delete,
    version_create,
    wait_for_end,
)

STOCK_PART = 3
"""The stock way gets this part of the backlog: its rate is what counts."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Runs per second: the medians of the rounds."""

    ours: float
    stock: float


def throughput(
    rig: Rig, *, runs: int, rounds: int, workers: int, tell: Callable[[str], None]
) -> Rates:
    """Measure both sides in turns, so that a busy machine is busy for both."""
    ours, peers = [], []
    for number in range(1, rounds + 1):
        ours.append(_ours(rig, runs, workers))
        tell(f"Round {number}: ours {ours[-1]:.0f} runs/s.")
        peers.append(_stock(rig, max(1, runs // STOCK_PART)))
        tell(f"Round {number}: the stock way {peers[-1]:.0f} runs/s.")
    return Rates(median(ours), median(peers))


def _ours(rig: Rig, runs: int, workers: int) -> float:
    """The backlog is there, the workers are up; beat comes last and rings for it all,
    so that its ringing is part of what is measured."""
    runs_delete()
    with rig.queue() as queue, rig.services() as services:
        backlog_create(version_create(queue), queue, runs)
        rig.start_workers(services, queue, workers)
        rig.start_beat(services)
        wait_for_end(services, runs)
    return rate(runs)


def _stock(rig: Rig, runs: int) -> float:
    runs_delete()
    with rig.queue() as queue, rig.services() as services:
        backlog_publish(version_create(queue), queue, runs, rig.broker_url)
        rig.start_stock_worker(services, queue)
        wait_for_end(services, runs)
    return rate(runs)
