"""`python -m scheduler_project.bench.fleet QUEUE NODES`: many workers on one machine.

Each is the product's own worker process, `manage.py worker` with all that it starts.
Only how it comes to be differs: all are forked from one process that has loaded the
code, for a hundred interpreters that load it take minutes here, and twice the memory.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from importlib import import_module

import django

PRELOADED = (
    "celery.apps.worker",
    "celery.worker.consumer",
    "workers_app.heartbeat",
    "workers_app.pool",
    "workers_app.runner",
)
PR_SET_PDEATHSIG = 1


def fleet(queue: str, nodes: int) -> None:
    """Run `nodes` workers of a queue until this process is told to stop."""
    for module in PRELOADED:
        import_module(module)
    gc.freeze()  # the collector's marks would copy the pages that they share
    workers = [_fork(queue, number) for number in range(nodes)]
    signal.signal(signal.SIGTERM, lambda *_: _tell(workers))
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]
    raise SystemExit(max(codes, key=abs))


def _tell(workers: list[int]) -> None:
    for pid in workers:
        os.kill(pid, signal.SIGTERM)


def _fork(queue: str, number: int) -> int:
    if pid := os.fork():
        return pid
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    code = 1
    try:
        _work(f"{queue}-{number}@bench")
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)  # nothing of the parent's is this process's to close


def _work(name: str) -> None:
    from django.core.management import call_command  # noqa: PLC0415 - after setup

    call_command("worker", name=name)


if __name__ == "__main__":
    django.setup()
    fleet(sys.argv[1], int(sys.argv[2]))
