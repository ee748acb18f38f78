"""A fire's delay behind its nominal time, so that a fleet does not start as one."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HASH_BYTES = 8


def jitter(task_id: int, scheduled_for: datetime, jitter_seconds: int) -> timedelta:
    """A part of [0, jitter_seconds) that is always the same for one fire.

    It is drawn from a hash of the task and the instant, so every beat, and a beat that
    plans the fire again, comes to the same delay; over the fires it is uniform, to the
    microsecond. Zero or less is no jitter. `scheduled_for` is aware: a naive one raises
    TypeError, as it would depend on the host's zone.
    """
    instant = (scheduled_for - EPOCH) // MICROSECOND
    # Not hash(): for text that differs from process to process.
    digest = hashlib.blake2b(f"{task_id}:{instant}".encode(), digest_size=HASH_BYTES)
    part = int.from_bytes(digest.digest(), "big")
    width = max(jitter_seconds, 0) * 1_000_000
    return (part * width >> 8 * HASH_BYTES) * MICROSECOND
