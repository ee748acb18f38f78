"""Turns: so many do something at a time, and none keeps the others waiting for long."""

from __future__ import annotations

import asyncio
from typing import Any


class Turns:
    """`places` turns at a time, each over after `seconds` at the latest. Belongs to one
    event loop."""

    def __init__(self, places: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(places)
        self._seconds = seconds

    def take(self) -> Turn:
        """`async with` waits for a turn. It ends by `Turn.end`, by time, or with the
        block."""
        return Turn(self._free, self._seconds)


class Turn:
    """One place that is taken."""

    __slots__ = ("_free", "_is_over", "_seconds", "_timer")

    def __init__(self, free: asyncio.Semaphore, seconds: float) -> None:
        self._free = free
        self._seconds = seconds
        self._is_over = False

    async def __aenter__(self) -> Turn:
        await self._free.acquire()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.end)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

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
