"""Servers that restart, forget, are too old, or hold something else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from kombu import Connection
from kombu.exceptions import VersionMismatch

from tests.workers_app.transports.conftest import Peer, peer
from tests.workers_app.transports.servers import DURABLE, SERVERS, Server
from workers_app.transports.redis_streams import OldServer
from workers_app.transports.redis_streams.streams import require_streams


@pytest.fixture(params=SERVERS)
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that the test may kill."""
    server = Server(request.param, tmp_path, *DURABLE)
    server.start()
    yield server
    server.end()


def test_a_killed_server_that_comes_back_has_every_message(own: Server) -> None:
    with peer(own.url) as one:
        one.send(*range(3))
        with one.consumer():
            one.receive(3)
            one.received.pop().ack()
            own.end(signal.SIGKILL)
            with pytest.raises(one.connection.connection_errors):
                one.drain(5)
    own.start()
    with peer(own.url) as heir, heir.consumer():
        assert sorted(heir.receive(2)) == [0, 1]


def test_a_message_sent_while_the_server_is_away_is_an_error(own: Server) -> None:
    with peer(own.url) as one:
        own.end(signal.SIGKILL)
        with pytest.raises(one.connection.connection_errors):
            one.send("x")
        own.start()
        one.send("y")
        assert one.queue.get().payload == "y"


def test_an_acknowledgement_that_failed_can_be_given_again(own: Server) -> None:
    with peer(own.url) as one:
        one.send("x")
        message = one.queue.get()
        own.end(signal.SIGKILL)
        with pytest.raises(redis.ConnectionError):
            one.channel.basic_ack(message.delivery_tag)
        own.start()
        one.channel.basic_ack(message.delivery_tag)
        with own.client as client:
            assert client.xlen("stream:q:0") == 0


def test_a_lost_server_does_not_keep_a_channel_from_closing(own: Server) -> None:
    one = Peer(Connection(own.url))
    one.send("x")
    with one.consumer():
        one.receive()
        own.end(signal.SIGKILL)
    one.connection.release()


def test_a_server_without_the_scripts_gets_them(server: Server, one: Peer) -> None:
    with one.consumer(), server.client as client:
        for number in range(3):
            client.script_flush()
            one.send(number)
            one.receive(number + 1)
            client.script_flush()
            one.received[-1].ack()
        client.script_flush()
    assert one.queue.get() is None


def test_an_emptied_server_is_used_again(server: Server, one: Peer) -> None:
    with one.consumer(), server.client as client:
        one.drain(0.2)
        client.flushall()
        with peer(server.url) as late:  # the bindings are gone as well
            late.send("x")
        assert one.receive() == ["x"]


@pytest.mark.parametrize("what", ["publish", "get", "consume", "declare"])
def test_a_key_that_is_no_stream_is_named(server: Server, one: Peer, what: str) -> None:
    with server.client as client:
        client.delete("stream:q:0")
        client.rpush("stream:q:0", "from elsewhere")

    def consume() -> None:
        with one.consumer():
            one.drain(5)

    acts: dict[str, Callable[[], object]] = {
        "publish": lambda: one.send("x"),
        "get": one.queue.get,
        "consume": consume,
        "declare": one.queue.declare,
    }
    with pytest.raises(redis.ResponseError, match=r"WRONGTYPE.*stream:q:0"):
        acts[what]()


@pytest.mark.parametrize("version", ["5.0.14", "6.0.16"])
def test_an_old_server_is_refused_with_what_to_do(version: str) -> None:
    with pytest.raises(OldServer, match=rf"6\.2 or later.* is {version}.*redis://"):
        require_streams({"redis_version": version})


@pytest.mark.parametrize("version", ["6.2.0", "7.2.4", "10.0.0", "", "unstable"])
def test_a_server_that_is_new_enough_or_does_not_tell_is_taken(version: str) -> None:
    require_streams({"redis_version": version})


def test_an_old_server_is_refused_at_the_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None so old can be had any more: this one is made to be too old.
    monkeypatch.setattr("workers_app.transports.redis_streams.streams.OLDEST", (99, 0))
    with (
        Connection(server.url) as connection,
        pytest.raises(VersionMismatch, match=r"need Redis 6\.2"),
    ):
        connection.default_channel  # noqa: B018 - Redis connects only now


def test_another_address_is_used_when_the_first_does_not_answer(
    server: Server,
) -> None:
    with peer(f"redisstream://127.0.0.1:1/0;{server.url}") as one:
        one.send("x")
        assert one.queue.get().payload == "x"
