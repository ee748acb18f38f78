"""The platform's services: which there are, and how they find each other."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connections

from scheduler_project import settings as settings_module
from scheduler_project.local import embedded
from scheduler_project.local.lock import lock
from scheduler_project.local.ports import HOST, free_port
from scheduler_project.local.supervisor import Service, Supervisor, Write

BASE_DIR = Path(__file__).resolve().parents[2]
WEB_PORT = 8000
WEB_READY_SECONDS = 60.0
WEB_PROCESSES = 2


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
            "TASK_EVENTS": "1",  # Flower shows tasks by them
            "CELERY_SKIP_CHECKS": "1",  # `make check` has done them; saves 10 MB each
            "PYTHONUNBUFFERED": "1",
        }

    def start_services(self, port: int = WEB_PORT) -> str:
        """Start web, beat and one worker; returns the web's address once it is ready.

        Raises:
            ServiceDiedError: one of them cannot run; its output says why.
            NotReadyError: the web does not answer in time.
        """
        web_port = free_port(port)
        for service in _services(web_port, self._environment):
            self.supervisor.start(service)
        url = f"http://{HOST}:{web_port}"
        self.supervisor.wait_until(
            lambda: _answers(f"{url}/readyz"), "web", WEB_READY_SECONDS
        )
        return url


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
    settings.DATABASES["default"] = settings_module._database(url)
    connections.settings = connections.configure_settings(settings.DATABASES)


def _services(port: int, environment: Mapping[str, str]) -> Iterator[Service]:
    python = sys.executable
    commands = {
        "web": [
            *(python, "-m", "gunicorn", "scheduler_project.asgi:application"),
            *("--worker-class", "asgi", "--workers", str(WEB_PROCESSES), "--preload"),
            *("--bind", f"{HOST}:{port}", "--log-level", "info"),
            # It would lie in the home directory, one for all platforms of the user.
            "--no-control-socket",
        ],
        "beat": [python, "-m", "celery", "-q", "-A", "scheduler_project", "beat"],
        "worker": [python, "manage.py", "worker"],
    }
    for name, command in commands.items():
        yield Service(name, command, environment, directory=BASE_DIR)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 404
    except OSError:
        return False
