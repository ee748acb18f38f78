"""What the kernel counts of a process: its CPU and its memory (proc(5))."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from scheduler_project.bench.workload import BenchError

_TICKS = os.sysconf("SC_CLK_TCK")


def child(word: str) -> int:
    """The process id of this process's child that has `word` on its command line.

    Raises:
        BenchError: there is not exactly one.
    """
    ids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    found = [
        int(pid)
        for pid in ids
        if word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    if len(found) != 1:
        raise BenchError(f"{len(found)} children have {word!r} on their command line")
    return found[0]


def named(name: str) -> list[int]:
    """The processes of this machine whose program has this name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # it has just ended
            if path.read_text().strip() == name:
                found.append(int(path.parent.name))
    return found


def tree(pid: int) -> list[int]:
    """The process and all below it, parents first."""
    found = [pid]
    with suppress(OSError):  # it has just ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child_id in (thread / "children").read_text().split():
                found += tree(int(child_id))
    return found


def tree_cpu_seconds(pid: int) -> float:
    """User and system time of the process and all below it, ended ones included."""
    ticks = 0
    for each in tree(pid):
        with suppress(OSError):  # it has just ended; its parent has its time
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def open_files(pid: int) -> int:
    """How many files, pipes and sockets the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used since its start."""
    # The name, second and in brackets, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mb(pid: int, kind: str = "Rss") -> float:
    """Memory in MB: `Rss`, `Pss`, which shares out what others map as well, or
    `Anonymous`, which is no file's."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{kind}:")]
    return int(line.split()[1]) * 1024 / 1e6
