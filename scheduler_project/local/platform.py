"""The platform's services: which there are, and how they find each other."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connections

from scheduler_project import settings as settings_module
from scheduler_project.local import embedded
from scheduler_project.local.lock import lock
from scheduler_project.local.ports import HOST, free_port
from scheduler_project.local.supervisor import (
    NotReadyError,
    Service,
    Supervisor,
    Write,
)

BASE_DIR = Path(__file__).resolve().parents[2]
WEB_PORT = 8000
WEB_READY_SECONDS = 60.0
WEB_PROCESSES = 2
_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Without the proxy that the environment may name: it knows no 127.0.0.1 of ours."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the data is. A server without an address is to be embedded."""

    database_url: str | None = None
    broker_url: str | None = None
    embedded_database: str = "sqlite"


class Platform:
    """A platform whose database and broker answer; its other services are to come."""

    def __init__(
        self,
        supervisor: Supervisor,
        directory: Path,
        database_url: str,
        broker_url: str,
    ) -> None:
        self.supervisor = supervisor
        self.broker_url = broker_url
        self._environment = {
            "GNOMON_VAR": str(directory),
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "LOG_FORMAT": "text",
            "TASK_EVENTS": "1",  # Flower shows tasks by them
            "PYTHONUNBUFFERED": "1",
        }

    def start_web(self, port: int = WEB_PORT) -> str:
        """Start the web service, on `port` or the next free one; returns its address.
        It can load while the tables are brought up to date."""
        port = free_port(port)
        self._start(
            "web",
            *(sys.executable, "-m", "gunicorn", "scheduler_project.asgi:application"),
            *("--worker-class", "asgi", "--workers", str(WEB_PROCESSES), "--preload"),
            *("--bind", f"{HOST}:{port}", "--log-level", "info"),
            # It would lie in the home directory, one for all platforms of the user.
            "--no-control-socket",
        )
        return f"http://{HOST}:{port}"

    def start_work(self) -> None:
        """Start beat and one worker, which need the tables."""
        for name in ("beat", "worker"):
            self._start(name, sys.executable, "manage.py", name)

    def _start(self, name: str, *command: str) -> None:
        self.supervisor.start(Service(name, command, self._environment, BASE_DIR))

    def wait_until_ready(self, url: str) -> None:
        """Wait until the web service at `url` is ready for traffic.

        Raises:
            ServiceDiedError: a service cannot run; its output says why.
            NotReadyError: what the web says of itself when the time is up.
        """
        said = ""

        def is_ready() -> bool:
            nonlocal said
            ready, said = _readiness(f"{url}/readyz")
            return ready

        try:
            self.supervisor.wait_until(is_ready, "web", WEB_READY_SECONDS)
        except NotReadyError as error:
            raise NotReadyError(f"{error}: {said}") from error


@contextmanager
def platform(directory: Path, addresses: Addresses, write: Write) -> Iterator[Platform]:
    """Hold `directory`, start the embedded servers that are needed, and point this
    process's Django at the database. All services stop at the end of the block.

    Raises:
        AlreadyRunningError: another platform uses the directory.
        ServiceDiedError, NotReadyError: a server cannot run.
    """
    with lock(directory) as descriptor, Supervisor(write) as supervisor:
        database_url, broker_url = addresses.database_url, addresses.broker_url
        if broker_url is None:
            server = embedded.valkey(directory / "valkey", descriptor)
            broker_url = embedded.start(supervisor, server)
        if database_url is None and addresses.embedded_database == "postgres":
            server = embedded.postgresql(directory / "postgres", descriptor)
            database_url = embedded.start(supervisor, server)
        if database_url is None:
            database_url = f"sqlite:///{directory}/gnomon.sqlite3"
        use_database(database_url)
        yield Platform(supervisor, directory, database_url, broker_url)


def use_database(url: str) -> None:
    """Point Django at `url`: it read its settings before the server had an address."""
    connections.close_all()
    with suppress(AttributeError):  # there was no connection yet
        del connections["default"]
    settings.DATABASES["default"] = settings_module.database_settings(url)
    connections.settings = connections.configure_settings(settings.DATABASES)


def _readiness(url: str) -> tuple[bool, str]:
    """Whether the service is ready, and what it says."""
    try:
        with _http.open(url, timeout=5) as answer:
            return answer.status == 200, answer.read().decode()
    except urllib.error.HTTPError as error:
        return False, error.read().decode(errors="replace")
    except OSError as error:  # refused, or too slow
        return False, str(error)
