"""Calls to be made a while from now, most of which then have nothing to do."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)


class Later:
    """Makes calls `seconds` after they are given, or up to half as much again.

    All of them share one timer of the loop: to set and cancel one for each costs a
    short job more than to open its pipes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._calls: deque[tuple[float, Callable[[], None]]] = deque()

    def call(self, call: Callable[[], None]) -> None:
        """Call it later. It cannot be taken back."""
        self._calls.append((self._loop.time() + self._seconds, call))
        if len(self._calls) == 1:
            self._loop.call_later(self._seconds, self._make)

    def _make(self) -> None:
        now = self._loop.time()
        due = []
        while self._calls and self._calls[0][0] <= now:
            due.append(self._calls.popleft()[1])
        if self._calls:
            self._loop.call_later(self._seconds / 2, self._make)
        for call in due:
            try:
                call()
            except Exception:  # the others are to be made all the same
                log.exception("later.failed")
