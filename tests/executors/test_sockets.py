"""The network of HTTP calls, through the pool of httpcore2 that uses it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpcore2
import pytest

from executors.sockets import Backend
from tests.executors.harness import certificate

LARGE = 3_000_000
"""More than the kernel takes at once: both ends have to wait for each other."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a request with its body, and closes without having said so."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    body = await reader.readexactly(length)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body)
    await writer.drain()
    writer.close()


def run(calls: int, body: bytes, folder: Path | None = None) -> list[bytes]:
    """The bodies of the answers to so many calls; over TLS if there is a folder."""

    async def main() -> list[bytes]:
        inside = outside = None
        if folder is not None:
            cert, key = certificate(folder)
            inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            inside.load_cert_chain(cert, key)
            outside = ssl.create_default_context(cafile=cert)
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=inside)
        port = server.sockets[0].getsockname()[1]
        scheme = "https" if folder else "http"
        url = f"{scheme}://localhost:{port}/"
        async with (
            server,
            httpcore2.AsyncConnectionPool(
                ssl_context=outside, network_backend=Backend()
            ) as pool,
        ):
            found = []
            for _ in range(calls):
                found.append((await pool.request("POST", url, content=body)).content)
                await asyncio.sleep(0)
        return found

    return asyncio.run(asyncio.wait_for(main(), 30))


def test_large_bodies_go_both_ways() -> None:
    body = bytes(range(250)) * (LARGE // 250)
    assert run(1, body) == [body]


def test_large_bodies_go_both_ways_over_tls(tmp_path: Path) -> None:
    body = bytes(range(250)) * (LARGE // 250)
    assert run(1, body, tmp_path) == [body]


def test_a_kept_connection_that_the_server_has_closed_is_not_used_again() -> None:
    assert run(20, b"again") == [b"again"] * 20


def test_reading_has_a_timeout() -> None:
    async def main() -> None:
        async def silence(
            _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            await over.wait()
            writer.close()

        over = asyncio.Event()
        server = await asyncio.start_server(silence, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        stream = await Backend().connect_tcp("127.0.0.1", port)
        with pytest.raises(httpcore2.ReadTimeout):
            await stream.read(10, timeout=0.01)
        over.set()
        assert await stream.read(10) == b""
        await stream.aclose()
        server.close()

    asyncio.run(main())
