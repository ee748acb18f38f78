"""Marks of processes: which job a process belongs to, whatever it has become.

A mark is the soft limit of real-time CPU time without a pause, far too large to limit
anything. Unlike a variable it stays through `env -i`, a new user and a new title;
unlike a session or a parent, through a daemon's double fork; and all may read it.
"""

from __future__ import annotations

import os

from executors.job import Ignoring

MARK_BASE = 1 << 60


def mark_of(supervisor: int, number: int) -> int:
    """The mark of a job, which all its processes bear, by its supervisor's identity (24
    bits) and its number."""
    return MARK_BASE | supervisor << 32 | number


def read_mark(pid: int) -> int:
    """The mark of a process, or 0."""
    try:
        _, _, line = _read(f"/proc/{pid}/limits").partition(b"Max realtime timeout")
        mark = int(line.split(None, 1)[0])
    except (OSError, ValueError, IndexError):
        return 0
    return mark if mark & MARK_BASE else 0


def marked_processes(supervisor: int) -> list[int]:
    """All processes of this supervisor's jobs, for when it can no longer tell."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    marks = range(mark_of(supervisor, 0), mark_of(supervisor + 1, 0))
    return [pid for pid in pids if read_mark(pid) in marks and not _is_zombie(pid)]


def open_children() -> int:
    """The file that lists the children of the main thread; -1 where there is none."""
    path = f"/proc/self/task/{os.getpid()}/children"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1  # a kernel without CONFIG_PROC_CHILDREN


def children_by_scan() -> list[int]:
    """The children of all threads of this process, at the price of all /proc."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with Ignoring(OSError, IndexError):
                parent = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()[1]
                if int(parent) == os.getpid():
                    found.append(int(name))
    return found


def _read(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def _is_zombie(pid: int) -> bool:
    try:
        # proc(5): pid (comm) state; comm may contain blanks and brackets.
        stat = _read(f"/proc/{pid}/stat").rpartition(b")")[2]
        return stat.split(None, 1)[0] in {b"Z", b"X"}
    except (OSError, IndexError):
        return True
