"""Consumers that die, hang, are slow, or cannot deal with a message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services import ROOT
from tests.workers_app.transports.conftest import LEASE_SECONDS, Peer, peer
from tests.workers_app.transports.servers import Server
from workers_app.transports.redis_streams.streams import place
from workers_app.transports.redis_streams.transport import Transport


@contextmanager
def consumer(
    server: Server, file: Path, what: str
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.workers_app.transports.consumer"),
            *(server.url, str(file), what),
        ],
        cwd=ROOT,
        env=os.environ,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def test_what_a_killed_consumer_held_goes_to_another_once(
    server: Server, one: Peer, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    file = tmp_path / "lines"
    one.send(*range(5))
    with consumer(server, file, "hold") as process:
        wait_until(lambda: len(lines(file)) == 5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with one.consumer():
        assert sorted(one.receive(5)) == list(range(5))
        one.drain(2 * LEASE_SECONDS)
    assert len(one.received) == 5
    assert all(message.delivery_info["redelivered"] for message in one.received)


def test_a_slow_living_consumer_keeps_what_it_holds(
    server: Server, one: Peer, tmp_path: Path
) -> None:
    file = tmp_path / "lines"
    one.send("x")
    slow = consumer(server, file, str(3 * LEASE_SECONDS))
    with slow, one.consumer():
        deadline = time.monotonic() + 30
        while "done" not in lines(file):
            assert time.monotonic() < deadline
            if lines(file):  # it has it, and may keep it
                one.drain(0.1)
    assert lines(file) == ["x", "done"]
    assert one.received == []
    assert one.size == 0


def test_a_stopped_consumer_loses_what_it_holds(
    server: Server, one: Peer, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    file = tmp_path / "lines"
    one.send("x")
    with consumer(server, file, "hold") as process:
        wait_until(lambda: lines(file) == ["x"])
        process.send_signal(signal.SIGSTOP)
        with one.consumer():
            assert one.receive() == ["x"]


def test_a_get_finds_what_a_dead_consumer_held(
    server: Server, wait_until: Callable[..., None]
) -> None:
    with peer(server.url) as dead, peer(server.url) as one:
        dead.send("x")
        dead.queue.get()
        dead.channel.leases.stop()  # as dead, as far as the server can tell
        found: list[Any] = []

        def get() -> bool:
            if message := one.queue.get():
                found.append(message.payload)
            return bool(found)

        wait_until(get)
        assert found == ["x"]


def test_a_closed_consumer_gives_back_at_once(one: Peer, server: Server) -> None:
    with peer(server.url, lease_seconds=1000) as leaving:
        leaving.send(*range(3))
        with leaving.consumer():
            leaving.receive(3)
    with one.consumer():
        assert one.receive(3) == [0, 1, 2]


def test_what_was_on_its_way_to_a_closed_consumer_is_given_back(
    one: Peer, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "brpop_timeout", 30)
    with peer(server.url, lease_seconds=1000) as leaving:
        with leaving.consumer():
            leaving.drain(0.3)  # it waits on the server now
        one.send("x")
        deadline = time.monotonic() + 10
        while one.size:  # until the server has given it away
            assert time.monotonic() < deadline
    with one.consumer():
        assert one.receive() == ["x"]


def test_a_message_that_kills_its_consumers_becomes_a_dead_letter(
    server: Server, one: Peer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "lines"
    one.send("poison")
    deadline = time.monotonic() + 60
    for deaths in (1, 2):
        with consumer(server, file, "hold"):  # killed at the end of the block
            while len(lines(file)) < deaths:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    with server.client as client, peer(server.url, max_deliveries=2) as careful:
        with careful.consumer():
            while not client.exists("stream:q:dead"):
                assert time.monotonic() < deadline
                careful.drain(0.1)
            careful.send("good")
            assert careful.receive() == ["good"]
        [(_, fields)] = client.xrange("stream:q:dead")
    assert fields[b"reason"] == b"deliveries"
    assert fields[b"d"] == b"2"
    assert "is a dead letter after 2 deliveries" in caplog.text


def test_giving_back_does_not_make_a_dead_letter(server: Server) -> None:
    with peer(server.url) as one, peer(server.url, max_deliveries=2) as heir:
        one.send("x")
        for _ in range(5):
            one.queue.get().requeue()
        held = one.queue.get()
        one.channel.leases.discard(held.delivery_tag)  # the first lease that runs out
        with heir.consumer():
            assert heir.receive() == ["x"]


def test_dead_letters_are_bounded(server: Server) -> None:
    with peer(server.url, max_dead_letters=3) as one, server.client as client:
        one.send(*range(5))
        for _ in range(5):
            one.queue.get().reject()
        kept: Any = client.xrange("stream:q:dead")
        assert len(kept) == 3
        assert b'"id"' not in kept[0][1][b"m"]


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"properties": 1}'])
def test_what_is_no_message_is_put_aside(
    one: Peer, server: Server, body: bytes
) -> None:
    with server.client as client:
        client.xadd("stream:q:0", {"m": body})
        one.send("good")
        with one.consumer():
            assert one.receive() == ["good"]
        [(_, fields)] = client.xrange("stream:q:dead")
        assert fields[b"m"] == body
        assert fields[b"reason"] == b"unreadable"


def test_an_entry_without_a_message_stops_nobody(one: Peer, server: Server) -> None:
    with server.client as client:
        client.xadd("stream:q:0", {"x": "y"})
        one.send("good")
        with one.consumer():
            assert one.receive() == ["good"]


def test_consumers_that_are_gone_are_forgotten(
    server: Server, one: Peer, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    file = tmp_path / "lines"
    one.send("x")
    with consumer(server, file, "hold"):
        wait_until(lambda: lines(file) == ["x"])
    with one.consumer(), server.client as client:
        one.receive()[0]
        one.received[0].ack()

        def names() -> list[Any]:
            one.drain(0.1)
            found: Any = client.xinfo_consumers("stream:q:0", "kombu")
            return [consumer["name"].decode() for consumer in found]

        wait_until(lambda: names() == [one.channel.streams.consumer])


def test_a_closed_consumer_is_forgotten(server: Server) -> None:
    with peer(server.url) as leaving:
        leaving.send("x")
        leaving.queue.get().ack()
    with server.client as client:
        assert client.xinfo_consumers("stream:q:0", "kombu") == []


def test_a_late_acknowledgement_ends_a_message_that_was_given_on(
    server: Server, one: Peer, other: Peer
) -> None:
    one.send("x")
    held = one.queue.get()
    one.channel.leases.discard(held.delivery_tag)  # its renewal fails
    with other.consumer():
        other.receive()
    held.requeue()  # not its to give any more
    assert one.size == 0
    other.received[0].ack()
    with server.client as client:
        assert client.xlen("stream:q:0") == 0


def test_a_renewal_takes_nothing_from_another(
    server: Server, one: Peer, other: Peer
) -> None:
    one.send("x")
    held = one.queue.get()
    one.channel.leases.discard(held.delivery_tag)
    with other.consumer():
        other.receive()
    stream, entry_id = place(held.delivery_tag)
    assert one.channel.streams.renew(stream, [entry_id]) == 0
    assert other.channel.streams.renew(stream, [entry_id]) == 1


def test_a_consumer_that_renewed_too_late_is_not_given_its_own_again(
    server: Server,
) -> None:
    with peer(server.url, lease_seconds=1000) as late, server.client as client:
        late.send("x")
        with late.consumer():
            late.receive()
            stream, entry_id = place(late.received[0].delivery_tag)
            name = late.channel.streams.consumer
            client.xclaim(
                *(stream, "kombu", name, 0, [entry_id]), idle=2_000_000, justid=True
            )
            late.channel._recovered_at = float("-inf")
            late.drain(0.5)
            assert late.bodies == ["x"]
            late.received[0].ack()
        assert late.size == 0
