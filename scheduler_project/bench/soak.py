"""Whether memory grows with the runs that pass."""

from __future__ import annotations

from collections.abc import Iterator

from scheduler_project.bench import process
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import (
    backlog_create,
    runs_delete,
    version_create,
    wait_for_end,
)

ROUND = 5_000
"""Runs that wait at a time."""
WARM_PART = 10
"""One part in so many of the runs warms up: caches and buffers reach their size."""
TARGET_PERCENT = 5


def soak(rig: Rig, *, runs: int) -> Iterator[Row]:
    """Have one worker execute `runs` shell runs in rounds, with a beat beside it;
    yields by how much the anonymous memory of each process has grown since the first
    tenth.
    """
    runs_delete()
    with rig.queue() as queue, rig.services() as services:
        version = version_create(queue)
        rig.start_beat(services)
        rig.start_workers(services, queue, 1)
        before: dict[str, float] = {}
        done = 0
        while done < runs:
            count = min(ROUND, runs - done)
            backlog_create(version, queue, count)
            wait_for_end(services, count)
            done += count
            if not before and done >= runs / WARM_PART:
                before = _sizes()
            rig.plan.tell(f"{done:,} runs: {_told(_sizes())}")
        yield from _rows(before, _sizes(), f"{runs:,} runs, {rig.broker}")


def _sizes() -> dict[str, float]:
    """Anonymous memory of each process, in MB."""
    worker, *below = process.tree(process.child("worker"))
    processes = {
        "worker": worker,
        "job supervisor": below[-1],
        "beat": process.child("beat"),
    }
    return {
        name: process.memory_mb(pid, "Anonymous") for name, pid in processes.items()
    }


def _rows(
    before: dict[str, float], after: dict[str, float], what: str
) -> Iterator[Row]:
    for name, size in after.items():
        yield Row(
            f"{name}, growth over {what}",
            100 * (size / before[name] - 1),
            "%",
            TARGET_PERCENT,
            is_delay=True,
        )
        yield Row(f"{name}, anonymous after {what}", size, "MB")


def _told(sizes: dict[str, float]) -> str:
    return ", ".join(f"{name} {size:.1f} MB" for name, size in sizes.items())
