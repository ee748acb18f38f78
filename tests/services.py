"""Real processes for tests: brokers, beats and workers of the database under test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import connection
from kombu import Connection, Queue

from tasks_app.models import TaskRun
from workers_app.transports import profile

ROOT = Path(__file__).resolve().parent.parent


def database_url() -> str:
    """The URL of the test database, for child processes."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    return (
        f"postgresql://{values['USER']}:{values['PASSWORD']}@/{values['NAME']}"
        f"?host={values['HOST']}"
        if str(values["HOST"]).startswith("/")
        else f"postgresql://{values['USER']}:{values['PASSWORD']}@{values['HOST']}"
        f":{values['PORT'] or 5432}/{values['NAME']}"
    )


FAST = {
    "HEARTBEAT_SECONDS": "0.5",
    "LEASE_SECONDS": "3",
    "UPKEEP_SECONDS": "0.5",
    "POLL_SECONDS": "0.5",
    "CANCEL_GRACE_SECONDS": "1",
}
"""Settings that shorten every wait of the contract."""


@dataclass
class Platform:
    """Beats and workers that share the test database, a broker and a queue."""

    broker_url: str
    folder: Path
    queue: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:12]}")
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def worker(self, name: str = "worker", **settings: str) -> subprocess.Popen[bytes]:
        return self.start("manage.py", "worker", "--name", name, **settings)

    def stock_worker(self, name: str = "worker") -> subprocess.Popen[bytes]:
        """A worker by Celery's own command line."""
        return self.start(
            "-m", "celery", "-A", "scheduler_project", "worker", "-n", name
        )

    def beat(self) -> subprocess.Popen[bytes]:
        return self.start("manage.py", "beat")

    def stock_beat(self) -> subprocess.Popen[bytes]:
        """A beat by Celery's own command line."""
        return self.start("-m", "celery", "-A", "scheduler_project", "beat")

    def start(self, *argv: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start `python argv` with the platform's settings in its environment."""
        log = self.folder / f"{len(self.processes)}-{argv[-1]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DATABASE_URL": database_url(),
                    "BROKER_URL": self.broker_url,
                    "WORKER_QUEUES": self.queue,
                    **self.settings,
                    **settings,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def logs(self) -> str:
        """What all processes have said, for a failed test's report."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with Connection(self.broker_url) as broker:  # which may be somebody's
            Queue(self.queue, channel=broker.default_channel).delete()


@contextmanager
def platform(broker_url: str, folder: Path, **settings: str) -> Iterator[Platform]:
    """A platform whose processes are stopped at the end, whatever happens."""
    running = Platform(broker_url, folder, settings=settings)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def use_broker(url: str) -> Iterator[None]:
    """Send through this broker, as the product does: what is sent has arrived."""
    options = profile(url)["broker_transport_options"]
    connection = Connection(url, connect_timeout=1, transport_options=options)
    with connection as broker, broker.Producer() as producer:

        @contextmanager
        def acquire(_given: object = None) -> Iterator[Any]:
            yield producer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(current_app, "producer_or_acquire", acquire)
            yield


def until(is_so: Callable[[], object], running: Platform, seconds: float = 30) -> None:
    """Wait for a state, with a deadline; what the processes said if it passes."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, running.logs()
        time.sleep(0.02)


def ended(run: TaskRun, running: Platform) -> TaskRun:
    """Wait for the run's end."""

    def is_terminal() -> bool:
        run.refresh_from_db()
        return run.is_terminal

    until(is_terminal, running)
    return run
