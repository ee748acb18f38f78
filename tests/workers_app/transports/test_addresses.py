"""The forms of a broker's URL: a socket, TLS, Sentinel."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from scheduler_project.local.ports import HOST, free_port
from tests.workers_app.transports.conftest import peer
from tests.workers_app.transports.servers import SERVERS, Server

MASTER = "mymaster"


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def assert_it_carries(url: str) -> None:
    with peer(url) as one, one.consumer():
        one.send("x")
        assert one.receive() == ["x"]
        one.received[0].ack()
        assert one.size == 0


def test_a_socket(kind: str, tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    server = Server(kind, tmp_path, "--unixsocket", str(socket))
    server.start()
    try:
        assert_it_carries(f"redisstream+socket://{socket}?virtual_host=3")
        with server.client as client:
            assert "db3" in client.info("keyspace")
    finally:
        server.end()


class TlsServer(Server):
    """Speaks TLS on its port, by a certificate of its own."""

    def __init__(self, folder: Path) -> None:
        self.certificate, key = folder / "cert.pem", folder / "key.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
                *("-days", "2", "-subj", "/CN=localhost", "-addext"),
                *(f"subjectAltName=IP:{HOST}", "-out", str(self.certificate)),
                *("-keyout", str(key)),
            ],
            check=True,
            capture_output=True,
        )
        self.tls_port = free_port()
        super().__init__(
            *("redis", folder, "--tls-port", str(self.tls_port)),
            *("--tls-auth-clients", "no", "--tls-cert-file", str(self.certificate)),
            *("--tls-key-file", str(key)),
        )


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[TlsServer]:
    if not shutil.which("openssl"):
        pytest.skip("no openssl makes a certificate")
    server = TlsServer(tmp_path)
    server.start()
    yield server
    server.end()


def test_tls_with_an_authority_of_ones_own(tls_server: TlsServer) -> None:
    assert_it_carries(
        f"redisstream-tls://{HOST}:{tls_server.tls_port}/0"
        f"?ssl_ca_certs={tls_server.certificate}"
    )


def test_tls_refuses_a_certificate_that_nobody_vouches_for(
    tls_server: TlsServer,
) -> None:
    with (
        pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"),
        peer(f"redisstream-tls://{HOST}:{tls_server.tls_port}/0"),
    ):
        pass


def test_tls_takes_it_if_it_is_told_to(tls_server: TlsServer) -> None:
    assert_it_carries(
        f"redisstream-tls://{HOST}:{tls_server.tls_port}/0?ssl_cert_reqs=none"
        "&ssl_check_hostname=false"
    )


class Watched:
    """A master, a replica, and a sentinel that watches them."""

    def __init__(self, kind: str, folder: Path) -> None:
        for name in ("master", "replica", "sentinel"):
            (folder / name).mkdir()
        self.master = Server(kind, folder / "master")
        self.replica = Server(
            *(kind, folder / "replica", "--replicaof", f"{HOST} {self.master.port}"),
            *("--repl-diskless-sync-delay", "0"),
        )
        configuration = folder / "sentinel" / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor {MASTER} {HOST} {self.master.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} 500\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )
        self.sentinel = Server(
            kind, folder / "sentinel", str(configuration), "--sentinel"
        )

    def start(self) -> None:
        for server in (self.master, self.replica, self.sentinel):
            server.start()

    def stop(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.end(signal.SIGKILL)

    @property
    def url(self) -> str:
        """With a sentinel that does not answer before the one that does."""
        return (
            f"redisstream-sentinel://{HOST}:1/{MASTER}/0;"
            f"redisstream-sentinel://{HOST}:{self.sentinel.port}/{MASTER}/0"
        )

    def replicas(self) -> int:
        with self.sentinel.client as client:
            return len(client.sentinel_slaves(MASTER))


@pytest.fixture
def watched(kind: str, tmp_path: Path) -> Iterator[Watched]:
    found = Watched(kind, tmp_path)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def test_sentinel_tells_the_master_before_and_after_a_failover(
    watched: Watched, wait_until: Callable[..., None]
) -> None:
    assert_it_carries(watched.url)
    with peer(watched.url) as one:
        one.send("kept")
        with watched.master.client as master:
            wait_until(lambda: watched.replicas() == 1, 30)
            assert master.wait(1, 10_000) == 1
    watched.master.end(signal.SIGKILL)
    wait_until(lambda: received(watched.url) == ["kept"], 60)


def received(url: str) -> list[object]:
    """What is there, once a master is; nothing before."""
    try:
        with peer(url) as one:
            message = one.queue.get()
            return [message.payload] if message else []
    except (redis.RedisError, OSError):
        return []


def test_without_a_name_of_the_master_it_says_what_to_write(watched: Watched) -> None:
    with (
        pytest.raises(ValueError, match="redisstream-sentinel://host:26379/mymaster/0"),
        peer(f"redisstream-sentinel://{HOST}:{watched.sentinel.port}/0"),
    ):
        pass
