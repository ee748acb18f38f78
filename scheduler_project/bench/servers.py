"""The servers of a bench: a PostgreSQL of its own, and the brokers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from django.db import connections
from kombu import Connection
from kombu.exceptions import OperationalError

from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import BenchError
from scheduler_project.local import embedded
from scheduler_project.local.bootstrap import admin_create, migrate
from scheduler_project.local.lock import lock
from scheduler_project.local.platform import use_database
from scheduler_project.local.supervisor import Supervisor, Write
from workers_app.transports import UnknownTransport, profile

BROKER_SECONDS = 5
RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672//"
POSTGRES_SETTINGS = {
    "max_connections": "500",  # for `nodes`
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "none",  # but where a measurement asks for it
}
VALKEY_SCHEMES = ("redis", "redisstream")


class Servers:
    """Starts servers in `directory`, which is the bench's own."""

    def __init__(
        self, directory: Path, descriptor: int, supervisor: Supervisor, write: Write
    ) -> None:
        self._directory = directory
        self._lock = descriptor
        self._supervisor = supervisor
        self._write = write
        self._database_url = ""
        self._password = ""

    def start_database(self) -> None:
        """Start PostgreSQL as it is by default, fsync and all, but for room for more
        connections, with tables and an administrator, and point this process's Django
        at it."""
        server = embedded.postgresql(
            self._directory / "postgres", self._lock, POSTGRES_SETTINGS
        )
        self._database_url = embedded.start(self._supervisor, server)
        use_database(self._database_url)
        migrate()
        self._password = admin_create() or ""

    def broker_urls(self) -> Iterator[str]:
        """What is measured where no broker is named: an embedded Valkey, by each way
        to use it, and RabbitMQ if one answers at its default address."""
        server = embedded.valkey(self._directory / "valkey", self._lock)
        url = urlsplit(embedded.start(self._supervisor, server))
        for scheme in VALKEY_SCHEMES:
            yield url._replace(scheme=scheme).geturl()
        with suppress(BenchError):
            broker_check(RABBITMQ_URL)
            yield RABBITMQ_URL

    def rig(self, broker_url: str) -> Rig:
        """A rig on the broker at `broker_url`.

        Raises:
            BenchError: no broker answers there.
        """
        broker_check(broker_url)
        environment = {
            "GNOMON_VAR": str(self._directory),
            "DATABASE_URL": self._database_url,
            "BROKER_URL": broker_url,
        }
        return Rig(
            _name(broker_url), broker_url, self._password, environment, self._write
        )


@contextmanager
def servers(directory: Path, write: Write) -> Iterator[Servers]:
    """What is started in the block stops at its end."""
    with lock(directory) as descriptor, Supervisor(write) as supervisor:
        try:
            yield Servers(directory, descriptor, supervisor, write)
        finally:
            connections.close_all()


def _name(broker_url: str) -> str:
    """What people call the broker, or the way to use it."""
    scheme = urlsplit(broker_url).scheme
    if scheme.startswith("amqp"):
        return "RabbitMQ"
    return "Redis Streams" if scheme.startswith("redisstream") else "Redis lists"


def broker_check(broker_url: str) -> None:
    """See that a broker answers.

    Raises:
        BenchError: none answers there, or its scheme is unknown.
    """
    try:
        profile(broker_url)
    except UnknownTransport as error:
        raise BenchError(str(error)) from error
    with Connection(broker_url, connect_timeout=BROKER_SECONDS) as broker:
        refusals: tuple[type[BaseException], ...] = (
            OperationalError,
            *broker.connection_errors,
            *broker.channel_errors,  # a wrong password, on RabbitMQ
        )
        try:
            broker.ensure_connection(max_retries=1)
            broker.default_channel  # noqa: B018 - Redis connects only now
        except refusals as error:
            place = broker_url.rpartition("@")[2]  # without the password
            raise BenchError(f"no broker at {place}: {error}") from error
