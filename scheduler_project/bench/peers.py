"""The peers: other ways to run the same command, measured in the same run.

Each has the same machine, PostgreSQL and broker to itself while it is measured, and a
backlog that is there before its workers, as the product has. What they run is in
`peer-project`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from django.conf import settings

from scheduler_project.bench.rig import Rig, run_to_end
from scheduler_project.bench.workload import wait_while
from scheduler_project.local.environments import PinnedEnvironment
from scheduler_project.local.supervisor import Service, Supervisor

PROJECT = Path(__file__).with_name("peer-project")
DATABASE = "bench_peers"
LISTS = {
    "redisstream": "redis",
    "redisstream-tls": "rediss",
    "redisstream-sentinel": "sentinel",
    "redisstream+socket": "redis+socket",
}
"""kombu's own transports, by ours."""
RECORD = struct.Struct("dd")
"""Start and end of a run that leaves no row, in seconds."""


@dataclass(frozen=True, slots=True)
class Way:
    """One set of options of a peer: its module, and the command of its worker.

    `sql` reads how many runs are over, and the seconds from the first start to the last
    end. A way without it keeps no rows: its tasks append to a file.
    """

    label: str
    module: str
    worker: tuple[str, ...]
    sql: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    is_installed_apart: bool = False

    def rate(self, rig: Rig, runs: int) -> float:
        """Runs per second of a backlog of `runs`: over as a row, where it keeps rows.

        Raises:
            BenchError: a process of it has failed.
            ServiceDiedError: its worker has ended.
            NotReadyError: it is too slow.
        """
        with rig.queue() as queue, rig.services() as services:
            _record(rig).unlink(missing_ok=True)
            if self.sql:
                _database_create(rig)
                run_to_end(services, self._service(rig, queue, *MIGRATE))
                _tables_empty(rig)
            run_to_end(
                services, self._service(rig, queue, "-m", self.module, str(runs))
            )
            worker = self._service(rig, queue, *self.worker)
            queues = ["--queues", queue] if "celery" in self.worker else []
            services.start(
                replace(worker, command=[*worker.command, *queues], is_essential=True)
            )
            return runs / self._seconds(rig, services, runs)

    def _seconds(self, rig: Rig, services: Supervisor, runs: int) -> float:
        """Wait until all runs are over; returns what they took."""
        if not self.sql:
            wait_while(services, runs, lambda: _recorded(rig) < runs)
            return _recorded_seconds(rig)
        with psycopg.connect(_database_url(rig), autocommit=True) as database:
            wait_while(services, runs, lambda: self._counted(database)[0] < runs)
            return self._counted(database)[1]

    def _counted(self, database: psycopg.Connection) -> tuple[int, float]:
        ended, seconds = database.execute(self.sql.encode()).fetchone() or (0, 0)
        return int(ended), float(seconds or 0)

    def _service(self, rig: Rig, queue: str, *command: str) -> Service:
        python = environment().python if self.is_installed_apart else sys.executable
        return Service(
            name="peer",
            command=[str(python), *command],
            environment={
                "PYTHONPATH": str(PROJECT),
                # Empty keeps Celery's Django fixup away.
                "DJANGO_SETTINGS_MODULE": "bench_peers.settings" if self.sql else "",
                "SECRET_KEY": "of no worth",
                "DATABASE_URL": _database_url(rig),
                "BROKER_URL": _broker_url(rig),
                "QUEUE": queue,
                "RECORD": str(_record(rig)),
                **self.environment,
            },
            is_essential=False,
        )


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer, and how many times its rate the product is to reach.

    The best of its ways counts.
    """

    name: str
    ratio: float
    ways: tuple[Way, ...]

    def title(self, way: Way) -> str:
        return f"{self.name}, {way.label}"

    @property
    def is_there(self) -> bool:
        """Whether all that it needs is installed."""
        return environment().is_installed or not any(
            way.is_installed_apart for way in self.ways
        )


def environment() -> PinnedEnvironment:
    """Where those are installed that the product does not need."""
    return PinnedEnvironment(
        settings.VAR_DIR / "bench-peers", PROJECT / "requirements.txt", "peers-install"
    )


def install(services: Supervisor) -> None:
    """Install what is not there yet.

    Raises:
        BenchError: it cannot be done.
    """
    if not environment().is_installed:
        run_to_end(services, environment().install())


def _record(rig: Rig) -> Path:
    return rig.directory / "peer-record"


def _recorded(rig: Rig) -> int:
    """Runs that are over: each has appended its start and its end."""
    record = _record(rig)
    return record.stat().st_size // RECORD.size if record.exists() else 0


def _recorded_seconds(rig: Rig) -> float:
    starts, ends = zip(*RECORD.iter_unpack(_record(rig).read_bytes()), strict=True)
    return float(max(ends) - min(starts))


def _broker_url(rig: Rig) -> str:
    """The same broker; of Redis, kombu itself knows the lists only."""
    url = urlsplit(rig.broker_url)
    return url._replace(scheme=LISTS.get(url.scheme, url.scheme)).geturl()


def _database_url(rig: Rig) -> str:
    """A database of the peers' own, on the same server."""
    return urlsplit(rig.database_url)._replace(path=f"/{DATABASE}").geturl()


def _database_create(rig: Rig) -> None:
    with (
        psycopg.connect(rig.database_url, autocommit=True) as database,
        suppress(psycopg.errors.DuplicateDatabase),
    ):
        database.execute(f"CREATE DATABASE {DATABASE}")


def _tables_empty(rig: Rig) -> None:
    """Have the disk hold nothing back for this side either."""
    with psycopg.connect(_database_url(rig), autocommit=True) as database:
        tables = database.execute(
            "SELECT quote_ident(tablename) FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename <> 'django_migrations'"
        ).fetchall()
        for (table,) in tables:
            database.execute(f"TRUNCATE {table}".encode())
        database.execute("CHECKPOINT")


MIGRATE = ("-m", "django", "migrate", "--run-syncdb", "--verbosity", "0")
CELERY = ("-m", "celery", "-q", "-A")
_JOBS = (
    "SELECT count(*), extract(epoch FROM max(completed_at) - min(started_at))"
    " FROM bench_peers_job WHERE status = 'succeeded'"
)
_DJANGO_Q_TASKS = (
    "SELECT count(*), extract(epoch FROM max(saved_at) - min(started))"
    " FROM django_q_task WHERE success"
)
_STOCK = (*CELERY, "bench_peers.stock", "worker", "--concurrency", "2")
_BARE = (*CELERY, "bench_peers.bare", "worker", "--without-gossip", "--without-mingle")

PEERS = (
    Peer(
        "Celery task with 3 ORM saves",
        8,
        (Way("prefork 2", "bench_peers.stock", _STOCK, _JOBS),),
    ),
    Peer(
        "the same, connection kept",
        2.5,
        (
            Way(
                "prefork 2",
                "bench_peers.stock",
                _STOCK,
                _JOBS,
                {"KEEP_CONNECTION": "1"},
            ),
        ),
    ),
    Peer(
        "django-q2, ORM broker",
        2.5,
        (
            Way(
                "4 workers",
                "bench_peers.django_q_way",
                ("-m", "django", "qcluster"),
                _DJANGO_Q_TASKS,
                {"CONCURRENCY": "4"},
                is_installed_apart=True,
            ),
        ),
    ),
    Peer(
        "bare Celery, no state",
        1,
        tuple(
            Way(
                label,
                "bench_peers.bare",
                (*_BARE, *options),
            )
            for label, options in (
                ("prefork 2", ("--concurrency", "2")),
                ("8 threads", ("--pool", "threads", "--concurrency", "8")),
            )
        ),
    ),
)
