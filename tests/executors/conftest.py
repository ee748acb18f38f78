"""A real HTTP server whose paths answer in the ways that targets do."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Target(BaseHTTPRequestHandler):
    """Answers by path and remembers what it was sent."""

    protocol_version = "HTTP/1.1"
    server: TargetServer

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.server.received.append(
            (self.command, self.path, dict(self.headers), self.rfile.read(length))
        )
        self.server.peers.add(self.client_address)
        getattr(self, "path_" + self.path.strip("/").split("/")[0], self.path_ok)()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def path_ok(self) -> None:
        self.send(200, b"all is well", Content_Type="text/plain")

    def path_status(self) -> None:
        self.send(int(self.path.split("/")[2]), b"as asked")

    def path_cookie(self) -> None:
        self.send(200, b"have one", Set_Cookie="session=secret; Path=/")

    def path_loop(self) -> None:
        self.send(302, b"", Location="/loop")

    def path_away(self) -> None:
        self.send(302, b"", Location="/ok")

    def path_file(self) -> None:
        self.send(302, b"", Location="file:///etc/passwd")

    def path_nul(self) -> None:
        self.send(200, b"a\x00b\xff")

    def path_long(self) -> None:
        self.send(200, b"x" * 60_000)

    def path_bomb(self) -> None:
        self.send(200, gzip.compress(b"0" * 50_000_000), Content_Encoding="gzip")

    def path_drop(self) -> None:
        self.close_connection = True

    def path_slow(self) -> None:
        deadline = time.monotonic() + 20
        while not self.server.may_answer.is_set() and time.monotonic() < deadline:
            self.server.may_answer.wait(0.05)
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Keep the test output clean."""


class TargetServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 2048

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Target)
        self.received: list[tuple[str, str, dict[str, str], bytes]] = []
        self.peers: set[tuple[str, int]] = set()
        self.may_answer = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, *args: Any) -> None:
        """A client that hangs up is no news here."""


@pytest.fixture
def target() -> Iterator[TargetServer]:
    with TargetServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.may_answer.set()
        server.shutdown()
        thread.join()
