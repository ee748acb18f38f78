"""Turns: so many do something at a time, and none keeps the others waiting for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Turns:
    """`places` turns at a time, each over after `seconds` at the latest. Belongs to one
    event loop."""

    def __init__(self, places: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(places)
        self._seconds = seconds

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Turn]:
        """Wait for a turn. It ends by `Turn.end`, by time, or with the block."""
        await self._free.acquire()
        turn = Turn(self._free, self._seconds)
        try:
            yield turn
        finally:
            turn.end()


class Turn:
    """One place that is taken."""

    def __init__(self, free: asyncio.Semaphore, seconds: float) -> None:
        self._free = free
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end)
        self._is_over = False

    def end(self) -> None:
        """Give the place to the next; again means nothing."""
        if not self._is_over:
            self._is_over = True
            self._timer.cancel()
            self._free.release()

    async def trace(self, event: str, _info: Any) -> None:
        """As a `trace` of httpcore2: the turn ends when the request is sent."""
        if event.endswith("send_request_headers.started"):
            self.end()
