"""Long polling: ask the database again until there is something to say.

The web service has a thread for each request that it works on, so a wait holds up
nobody else (`scheduler_project/handler.py`). It holds no pooled connection while it
sleeps, and the number of waits of a process has a limit, beyond which the answer is the
present state, at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import TypeVar

from django.db import connection

POLL_SECONDS = 0.25
MAX_WAIT_SECONDS = 30
MAX_WAITERS = 64

_waiters = BoundedSemaphore(MAX_WAITERS)

T = TypeVar("T")


def poll(read: Callable[[], T], is_enough: Callable[[T], bool], seconds: float) -> T:
    """What `read` gives: as soon as it is enough, or after so many seconds."""
    value = read()
    if is_enough(value) or seconds <= 0 or not _waiters.acquire(blocking=False):
        return value
    try:
        deadline = time.monotonic() + seconds
        while not is_enough(value) and (left := deadline - time.monotonic()) > 0:
            release_connection()
            time.sleep(min(POLL_SECONDS, left))
            value = read()
    finally:
        _waiters.release()
    return value


def release_connection() -> None:
    """Give the connection back, to the pool if there is one."""
    if not connection.in_atomic_block:
        connection.close()
