"""The memory of each service that has nothing to do."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from scheduler_project.bench import process
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import READY_SECONDS, Rig
from scheduler_project.local.supervisor import Supervisor

IDLE_SECONDS = 12
"""Two heartbeats and more, after the start."""
SERVICES = {"web": "gunicorn", "beat": "beat", "worker": "worker"}
"""Each with a word of its command line."""
KINDS = {"RSS": "Rss", "PSS": "Pss", "anonymous": "Anonymous"}
TARGETS_MB = {"RSS": None, "PSS": 50.0, "anonymous": 45.0}
"""Of all processes of a service together."""
WARM_PAGES = ("/readyz", "/admin/login/", "/api/v1/")
WARM_ROUNDS = 20


def memory(rig: Rig) -> Iterator[Row]:
    """Start web, beat and a worker, let them idle, and yield what the kernel counts of
    each process, and of each service: the worker's with its job supervisor, the web's
    with gunicorn's master. Pages that forked processes share count for each of them in
    RSS and as anonymous memory, and are shared out in PSS.
    """
    with rig.queue() as queue, rig.services() as services:
        address = rig.start_web(services)
        rig.start_beat(services)
        rig.start_workers(services, queue, 1)
        _warm(services, address)
        rig.plan.tell(f"Letting the services idle for {IDLE_SECONDS} s ...")
        services.wait(IDLE_SECONDS)
        for service, word in SERVICES.items():
            yield from _rows(service, process.tree(process.child(word)), rig.broker)


def _warm(services: Supervisor, address: str) -> None:
    """Ask for a page of each kind: the first one loads what an idle web has loaded."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers() -> bool:
        try:
            opener.open(f"{address}/readyz", timeout=5).close()
        except OSError:
            return False
        return True

    services.wait_until(answers, "web", READY_SECONDS)
    for _ in range(WARM_ROUNDS):
        for page in WARM_PAGES:
            try:
                opener.open(address + page, timeout=5).close()
            except OSError:  # 401 is an answer, too
                time.sleep(0)


def _rows(service: str, processes: list[int], broker: str) -> Iterator[Row]:
    for kind, word in KINDS.items():
        sizes = [process.memory_mb(pid, word) for pid in processes]
        yield Row(
            f"{service}, idle, {kind}, {broker}",
            sum(sizes),
            "MB",
            TARGETS_MB[kind],
            is_delay=True,
        )
        if len(sizes) > 1:
            for number, (pid, size) in enumerate(zip(processes, sizes, strict=True)):
                part = f"{service}, process {number + 1} ({_command(pid)})"
                yield Row(f"{part}, {kind}, {broker}", size, "MB")


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
