"""What the servers and services of a bench have done so far: read twice, it tells what
they did in between."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis
from django.db import connection

from scheduler_project.bench import process

PROCESSES = {
    "PostgreSQL": "unix_socket_directories=",
    "beat": "beat",
    "the fleet": "scheduler_project.bench.fleet",
}
"""Whose CPU is read, by a word on the command line."""
BROKER = "the broker"
LOCAL = {"127.0.0.1", "localhost", "::1"}
CLAIM = "%WITH best AS MATERIALIZED%"


@dataclass(frozen=True, slots=True)
class Reading:
    """Counts since the servers started. `commands`: those to a broker that is a Redis.
    `cpu_seconds` lacks a broker that is not on this machine."""

    at: float
    statements: int
    transactions: int
    claims: int
    wal_bytes: int
    cpu_seconds: Mapping[str, float]
    commands: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """What happened between two readings."""

    before: Reading
    after: Reading

    @property
    def seconds(self) -> float:
        return self.after.at - self.before.at

    def count(self, name: str) -> int:
        """How many of `name`, a count of the readings."""
        return int(getattr(self.after, name)) - int(getattr(self.before, name))

    def rate(self, name: str) -> float:
        """How many a second."""
        return self.count(name) / self.seconds

    def cpu_seconds(self) -> Iterator[tuple[str, float]]:
        """What each process has used."""
        for name, seconds in self.before.cpu_seconds.items():
            yield name, self.after.cpu_seconds[name] - seconds


@dataclass(frozen=True, slots=True)
class Meters:
    """Reads the bench's PostgreSQL, its broker, and the processes that it started."""

    broker_url: str

    def begin(self) -> None:
        """Have PostgreSQL count the statements of connections made from now on."""
        with connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            cursor.execute("ALTER ROLE CURRENT_USER SET pg_stat_statements.track = top")

    def end(self) -> None:
        """Have it count no more."""
        with connection.cursor() as cursor:
            cursor.execute("ALTER ROLE CURRENT_USER RESET pg_stat_statements.track")

    def read(self) -> Reading:
        statements, claims = _statements()
        transactions, wal_bytes = _transactions()
        return Reading(
            at=time.monotonic(),
            statements=statements,
            transactions=transactions,
            claims=claims,
            wal_bytes=wal_bytes,
            cpu_seconds=self._cpu_seconds(),
            commands=self._commands(),
        )

    def _cpu_seconds(self) -> Mapping[str, float]:
        pids: dict[str, Sequence[int]] = {
            name: [process.child(word)] for name, word in PROCESSES.items()
        }
        if urlsplit(self.broker_url).hostname in LOCAL:
            pids[BROKER] = self._broker_pids()
        return {
            name: sum(map(process.tree_cpu_seconds, found))
            for name, found in pids.items()
        }

    def _broker_pids(self) -> Sequence[int]:
        if self._is_redis:
            return [self._info("server")["process_id"]]
        return process.named("beam.smp")  # RabbitMQ's machine; it tells no number

    @property
    def _is_redis(self) -> bool:
        return urlsplit(self.broker_url).scheme.startswith("redis")

    def _commands(self) -> int | None:
        if not self._is_redis:
            return None
        return int(self._info("stats")["total_commands_processed"])

    def _info(self, section: str) -> Mapping[str, Any]:
        url = urlsplit(self.broker_url)._replace(scheme="redis").geturl()
        with redis.Redis.from_url(url) as client:
            found: Mapping[str, Any] = client.info(section)
        return found


def _statements() -> tuple[int, int]:
    """All statements, and those that claim."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COALESCE(sum(calls), 0),"
            " COALESCE(sum(calls) FILTER (WHERE query LIKE %s), 0)"
            " FROM pg_stat_statements",
            [CLAIM],
        )
        statements, claims = cursor.fetchone()
    return int(statements), int(claims)


def _transactions() -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT xact_commit, (SELECT wal_bytes FROM pg_stat_wal)"
            " FROM pg_stat_database WHERE datname = current_database()"
        )
        transactions, wal_bytes = cursor.fetchone()
    return int(transactions), int(wal_bytes)


def connections() -> int:
    """Connections to PostgreSQL, but this process's own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])
