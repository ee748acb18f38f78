"""Child processes: start them, label their output, notice a death, stop them all.

A child goes with its parent, even when that is killed with SIGKILL.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from scheduler_project.local.errors import PlatformError

Write = Callable[[str, str], None]
"""Takes a service's name and one line of its output, from any thread."""

STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
_SETPRIV = shutil.which("setpriv")  # util-linux; not on macOS


@dataclass(frozen=True, slots=True)
class Service:
    """One child process. `environment` is added to the parent's.

    The death of an essential service is the platform's. A `serves_others` service
    (a database, a broker) is stopped after those that use it.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    is_essential: bool = True
    serves_others: bool = False
    privileges: Sequence[str] = ()
    """Options of setpriv, for a service that runs as another user."""
    pass_fds: Sequence[int] = ()


class ServiceDiedError(PlatformError):
    """An essential service has ended by itself."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} died: {describe_exit(code)}")
        self.name = name
        self.code = code


class NotReadyError(PlatformError):
    """A service lives, and does not answer in time."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a service that is not essential."""

    name: str
    code: int


class _Child:
    """A running service, with a thread that reads its output and one that waits."""

    def __init__(
        self, service: Service, write: Write, exits: queue.Queue[_Child]
    ) -> None:
        self.service = service
        self.process = subprocess.Popen(  # noqa: S603 - the platform's own commands
            [*dies_with_parent(service), *service.command],
            env={**os.environ, **service.environment},
            cwd=service.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=service.pass_fds,
            # Away from the terminal's process group: Ctrl-C is for the parent, which
            # stops its children in order.
            start_new_session=True,
        )
        self._write = write
        self._exits = exits
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._reader.start()
        self._waiter.start()

    def _read(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - it is a PIPE
        with self.process.stdout as output:
            for line in output:
                self._write(self.service.name, line.decode(errors="replace").rstrip())

    def _wait(self) -> None:
        self.process.wait()
        # The last words come first; a grandchild may hold the pipe open for ever.
        self._reader.join(timeout=0.5)
        self._exits.put(self)

    def ask_to_stop(self) -> None:
        self.process.send_signal(self.service.stop_signal)

    def has_ended_by(self, deadline: float) -> bool:
        self._waiter.join(timeout=max(0.0, deadline - time.monotonic()))
        return not self._waiter.is_alive()

    def kill_group(self) -> None:
        """Kill the process and what it left in its group (gunicorn's workers)."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Keeps services running while its `with` block lasts, and stops them at its end.

    Use it from the main thread: a child goes with the thread that started it.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._children: list[_Child] = []
        self._exits: queue.Queue[_Child] = queue.Queue()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, service: Service) -> None:
        self._children.append(_Child(service, self._write, self._exits))

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Wait for a service to end: None after `timeout` seconds without one.

        Raises:
            ServiceDiedError: an essential one has ended.
        """
        try:
            child = self._exits.get(timeout=timeout)
        except queue.Empty:
            return None
        self._children.remove(child)
        child.kill_group()
        service, code = child.service, child.process.returncode
        if service.is_essential:
            raise ServiceDiedError(service.name, code)
        return Exit(service.name, code)

    def wait_until(
        self, is_ready: Callable[[], bool], what: str, timeout_seconds: float
    ) -> None:
        """Wait until `is_ready` says so, with an eye on the services.

        Raises:
            ServiceDiedError: an essential service has ended.
            NotReadyError: the time is up.
        """
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if time.monotonic() > deadline:
                raise NotReadyError(f"{what} is not ready after {timeout_seconds:g} s")
            self.wait(POLL_SECONDS)

    def stop(self) -> None:
        """Stop all services: those that serve others last. A second Ctrl-C kills."""
        users = [c for c in self._children if not c.service.serves_others]
        servers = [c for c in self._children if c.service.serves_others]
        self._children = []
        try:
            self._stop(users)
            self._stop(servers)
        except KeyboardInterrupt:
            for child in (*users, *servers):
                if child.process.poll() is None:
                    child.kill_group()

    def _stop(self, children: Iterable[_Child]) -> None:
        living = [child for child in children if child.process.poll() is None]
        for child in living:
            child.ask_to_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for child in living:
            if not child.has_ended_by(deadline):
                self._write(child.service.name, "does not stop in time: killed")
            child.kill_group()


def describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}"


def dies_with_parent(service: Service) -> list[str]:
    """The prefix that has the kernel signal the child when its parent is gone.

    setpriv executes the command in its own place: the process id stays the same.
    """
    if _SETPRIV is None:
        return []
    # Servers shut down in order. The others would wait for them, and never end.
    last = service.stop_signal if service.serves_others else signal.SIGKILL
    return [_SETPRIV, "--pdeathsig", last.name, *service.privileges, "--"]
