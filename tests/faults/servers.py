"""Embedded servers that can be killed and started again on the same port."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connections

from scheduler_project.local import embedded
from scheduler_project.local.bootstrap import migrate
from scheduler_project.local.embedded import Server
from scheduler_project.local.lock import lock
from scheduler_project.local.platform import use_database
from scheduler_project.local.supervisor import dies_with_parent

READY_SECONDS = 60.0


class Killable:
    """A server as a child process, with `environment` added to its own."""

    def __init__(
        self, server: Server, environment: Mapping[str, str] | None = None
    ) -> None:
        self.url = server.url
        self._server = server
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        service = self._server.service
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        self._process = subprocess.Popen(
            # By `env`, which comes after the change of user: what is preloaded may
            # keep semaphores of its own.
            [*dies_with_parent(service), "env", *variables, *service.command],
            cwd=service.directory,
            env={**os.environ, **service.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=service.pass_fds,
            start_new_session=True,
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._server.is_ready():
            assert self._process.poll() is None, f"{service.name} has ended"
            assert time.monotonic() < deadline, f"{service.name} does not answer"
            time.sleep(0.05)

    def end(self, by: signal.Signals) -> None:
        """Send the signal and wait for the end."""
        assert self._process
        self._process.send_signal(by)
        self._process.wait(30)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self.end(self._server.service.stop_signal)


@contextmanager
def own_postgresql(
    folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Killable]:
    """A PostgreSQL in `folder`, with all tables, which Django uses meanwhile."""
    with lock(folder) as held:
        server = Killable(embedded.postgresql(folder / "pg", held), environment)
        server.start()
        configured = settings.DATABASES["default"], connections.settings
        before = connections["default"]
        try:
            use_database(server.url)
            migrate()
            yield server
        finally:
            connections["default"].close()
            settings.DATABASES["default"], connections.settings = configured
            connections["default"] = before
            server.stop()
