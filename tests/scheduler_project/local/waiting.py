"""Waiting for other processes by deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_SECONDS = 30.0


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS:g} s: {what}"
        time.sleep(0.02)


def runs(process_id: int) -> bool:
    """Whether the process lives; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state[0] != "Z"
