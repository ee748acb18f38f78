"""Measures what the job supervisor costs: python -m tests.bench.spawning [JOBS].

Runs `sh -c true` 8 at a time, in turns from 8 threads of this process (bare, and with
its output read) and by the supervisor. Turns, since other load disturbs: read the
ratios.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from executors.processes import Command, run_process
from executors.supervisor import Supervisor

AT_A_TIME = 8
ROUNDS = 5
ARGV = ("/bin/sh", "-c", "true")


def main(jobs: int) -> None:
    """Print jobs per second of each way, the supervisor's share, and its memory."""
    shares: dict[str, list[float]] = {"bare": [], "output read": []}
    for _ in range(ROUNDS):
        bare = by_threads(jobs, lambda p: p.wait(), subprocess.DEVNULL)
        read = by_threads(jobs, lambda p: p.communicate(), subprocess.PIPE)
        ours, memory = asyncio.run(by_supervisor(jobs))
        shares["bare"].append(ours / bare)
        shares["output read"].append(ours / read)
        sys.stdout.write(
            f"8 threads {bare:5.0f}/s, output read {read:5.0f}/s;"
            f" supervisor, output read {ours:5.0f}/s; {memory}\n"
        )
    for name, values in shares.items():
        share = statistics.median(values)
        sys.stdout.write(f"supervisor / 8 threads, {name}: {share:.2f}\n")


def by_threads(
    jobs: int, finish: Callable[[subprocess.Popen[bytes]], object], output: int
) -> float:
    def work() -> None:
        for _ in range(jobs // AT_A_TIME):
            finish(
                subprocess.Popen(
                    ARGV, cwd="/", start_new_session=True, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=output,
                )
            )  # fmt: skip

    threads = [threading.Thread(target=work) for _ in range(AT_A_TIME)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return jobs / (time.monotonic() - began)


async def by_supervisor(jobs: int) -> tuple[float, str]:
    command = Command(argv=ARGV, environment={"PATH": "/usr/bin:/bin"}, cwd="/")

    async def work() -> None:
        for _ in range(jobs // AT_A_TIME):
            await run_process(command, write=lambda *_: None, grace_seconds=1)

    supervisor = await Supervisor.start(lease_seconds=30)
    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    rate = jobs / (time.monotonic() - began)
    memory = f"confinement {supervisor.confinement}, {_memory(supervisor.pid or 0)}"
    await supervisor.aclose()
    return rate, memory


def _memory(pid: int) -> str:
    """The PSS of the supervisor, and of unshare(1) above it if there is one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    kilobytes = 0
    for process in (str(pid), *children):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        kilobytes += int(next(x for x in lines if x.startswith("Pss:")).split()[1])
    return f"{kilobytes / 1024:.1f} MB PSS"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
