"""The network of HTTP calls, on asyncio alone, so that a call that waits holds little.

In place of httpcore2's own, which goes through anyio: its streams, events and cancel
scopes take 8 KB a call, these 1 KB.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpcore2

HAPPY_EYEBALLS_SECONDS = 0.25
"""How long one address of a name has before the next is tried beside it (RFC 8305)."""


class Backend(httpcore2.AsyncNetworkBackend):
    """Opens connections."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - no call of ours has one
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - nor these
    ) -> httpcore2.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        with _named(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            async with asyncio.timeout(timeout):
                _, link = await loop.create_connection(
                    _Link,
                    host,
                    port,
                    # Tasks and cycles, 5 KB a call: only where there may be a choice.
                    happy_eyeballs_delay=None
                    if _is_address(host)
                    else HAPPY_EYEBALLS_SECONDS,
                )
        return link

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Link(httpcore2.AsyncNetworkStream, asyncio.Protocol):
    """One connection. It reads only while somebody waits for it, so what the other end
    sends beyond that stays with the kernel."""

    __slots__ = ("_data", "_error", "_is_over", "_room", "_transport", "_waiter")

    def __init__(self) -> None:
        self._data = b""
        self._error: Exception | None = None
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    # --- as a stream ------------------------------------------------------------------

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:  # without a generator: this is where calls wait
            async with asyncio.timeout(timeout):
                while not self._data and not self._is_over:
                    self._transport.resume_reading()
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        except TimeoutError as error:
            raise httpcore2.ReadTimeout(error) from error
        if self._error is not None and not self._data:
            raise httpcore2.ReadError(self._error) from self._error
        data, self._data = self._data[:max_bytes], self._data[max_bytes:]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _named(httpcore2.WriteTimeout, httpcore2.WriteError):
            if self._is_over:
                raise self._error or BrokenPipeError("the connection is closed")
            self._transport.write(buffer)
            if self._room is not None:
                async with asyncio.timeout(timeout):
                    await asyncio.shield(self._room)

    async def aclose(self) -> None:
        self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            with _named(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                async with asyncio.timeout(timeout):
                    inner = await loop.start_tls(
                        self._transport,
                        self,
                        ssl_context,
                        server_hostname=server_hostname,
                    )
        except BaseException:
            self._transport.abort()
            raise
        if inner is None:
            raise httpcore2.ConnectError("the connection was closed")
        self._transport.resume_reading()  # should it have been told of data meanwhile
        self.connection_made(inner)
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # between two calls: it is over, or talks unasked
            return self._is_over or bool(self._data) or self._has_news()
        return self._transport.get_extra_info(info)

    def _has_news(self) -> bool:
        """Whether the kernel has something that has not been read, or the end."""
        number = self._transport.get_extra_info("socket").fileno()
        if number < 0:
            return True
        poll = select.poll()
        poll.register(number, select.POLLIN)
        return bool(poll.poll(0))

    # --- as a protocol ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._is_over = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_over = True
        self._error = self._error or error
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()


@contextmanager
def _named(late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """Say what has happened with httpcore2's exceptions."""
    try:
        yield
    except TimeoutError as error:
        raise late(error) from error
    except OSError as error:
        raise broken(error) from error
