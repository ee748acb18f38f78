"""One platform per data directory."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scheduler_project.local.errors import PlatformError

LEFTOVER_SECONDS = 15.0
"""How long the servers of a killed platform may take to stop."""


class AlreadyRunningError(PlatformError):
    """Another platform uses the directory."""


@contextmanager
def lock(directory: Path) -> Iterator[int]:
    """Hold the directory; yields the lock's file descriptor.

    A process that inherits the descriptor holds the lock as well: given to the
    embedded servers, it keeps the next platform waiting until they are gone, even
    when this one was killed.

    Raises:
        AlreadyRunningError: another one holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, directory)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, directory: Path) -> None:
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while not _try(descriptor):
        holder = int(os.pread(descriptor, 20, 0) or 0)
        if _lives(holder) or time.monotonic() > deadline:
            raise AlreadyRunningError(
                f"a platform already runs on {directory} (process {holder}): stop it"
                " first, or set GNOMON_VAR to another directory"
            )
        time.sleep(0.05)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(process_id: int) -> bool:
    return process_id > 0 and Path(f"/proc/{process_id}").exists()
