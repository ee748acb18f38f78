"""Processes that can be killed, frozen and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from scheduler_project.local.supervisor import Service, dies_with_parent

STOP_SECONDS = 15.0


class Process:
    """A service of the platform. Its output goes to `<name>.log` in `logs`.

    Use it from the main thread: a child goes with the thread that started it.
    """

    def __init__(self, service: Service, logs: Path) -> None:
        self.service = service
        self.is_frozen = False
        self._log = logs / f"{service.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the platform's own commands
                [*dies_with_parent(self.service), *self.service.command],
                env={**os.environ, **self.service.environment},
                cwd=self.service.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=self.service.pass_fds,
                start_new_session=True,
            )
        self.is_frozen = False

    def strike(self, number: signal.Signals) -> None:
        """Send a signal to this process alone, as the kernel would."""
        if self.is_alive and self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        self.strike(signal.SIGKILL)
        self._wait(STOP_SECONDS)

    def freeze(self) -> None:
        self.strike(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        self.strike(signal.SIGCONT)
        self.is_frozen = False

    def ask_to_stop(self) -> None:
        self.thaw()
        self.strike(self.service.stop_signal)

    def stop(self, deadline: float) -> None:
        """Wait for its end until `deadline` (monotonic), then kill it and its group."""
        if not self._wait(deadline - time.monotonic()):
            self.kill()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def tail(self, lines: int = 10) -> str:
        """The last lines of its output."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _wait(self, seconds: float) -> bool:
        if self._process is None:
            return True
        try:
            self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True


def kill_strays(mark: str) -> int:
    """Kill every process that has `mark` in its command line: what jobs leave behind
    when their worker is killed. Needs /proc; elsewhere they end by themselves.

    Returns:
        How many there were.
    """
    killed = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError, ValueError):
            if mark.encode() in path.read_bytes() and int(path.parts[2]) != os.getpid():
                os.kill(int(path.parts[2]), signal.SIGKILL)
                killed += 1
    return killed
