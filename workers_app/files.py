"""Open files: a worker of many slots needs more than hosts allow by default."""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger()

FILES_A_RUN = 3
"""A shell job has two pipes and, for a moment, a third; an HTTP call one socket."""
FILES_BESIDES = 100
"""Database, broker, logs, and what libraries open."""


def files_allow(slots: int) -> int:
    """Raise the process's soft limit of open files to what so many runs at a time need,
    and no further: jobs inherit it, and some close every file that they might have.

    Returns:
        How many runs at a time the hard limit allows; where these are fewer than
        `slots`, the log says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = slots * FILES_A_RUN + FILES_BESIDES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return slots
    allowed = max(0, (hard - FILES_BESIDES) // FILES_A_RUN)
    log.warning(
        "worker.too_few_files",
        slots=slots,
        allowed=allowed,
        reason=f"{slots} slots may need {needed} open files, and the hard limit"
        f" (ulimit -Hn) is {hard}: runs beyond {allowed} at a time may fail to start",
    )
    return allowed
