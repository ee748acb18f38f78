"""Bare Celery: the same command, no Django, no database, no results, no state.

So that it can be counted at all, each task appends its start and its end to a file: one
write of 16 bytes, some 2 us. `python -m bench_peers.bare RUNS` sends a backlog.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from functools import cache

from celery import Celery

from bench_peers import command_run

app = Celery("bench_peers", broker=os.environ["BROKER_URL"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=16,  # its default of 4 is slower
    worker_disable_rate_limits=True,
)


@app.task(name="bench_peers.run_bare")
def run() -> None:
    started = time.time()
    command_run()
    os.write(_record(), struct.pack("dd", started, time.time()))


@cache
def _record() -> int:
    """Opened by each process itself; appends of this size do not mix."""
    return os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def publish(runs: int) -> None:
    with app.producer_pool.acquire() as producer:
        for _ in range(runs):
            run.apply_async(queue=os.environ["QUEUE"], producer=producer)


if __name__ == "__main__":
    publish(int(sys.argv[1]))
