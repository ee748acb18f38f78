"""Servers, and short ways to send and receive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from tests.workers_app.transports.servers import DURABLE, SERVERS, Server

LEASE_SECONDS = 1.0
DEADLINE_SECONDS = 20.0


@pytest.fixture(scope="module", params=SERVERS)
def a_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(request.param, tmp_path_factory.mktemp(request.param), *DURABLE)
    server.start()
    yield server
    server.end()


@pytest.fixture
def server(a_server: Server) -> Server:
    """An empty one."""
    with a_server.client as client:
        client.flushall()
    return a_server


class Peer:
    """A connection with a queue of the name `q`, and what it has received."""

    def __init__(self, connection: Connection) -> None:
        self.connection: Any = connection
        self.channel: Any = connection.default_channel
        self.queue = self.bind("q")
        self.received: list[Any] = []

    def bind(self, name: str, **options: Any) -> Any:
        queue: Any = Queue(name, Exchange(name), routing_key=name, **options)
        queue = queue(self.channel)
        queue.declare()
        return queue

    def send(self, *bodies: Any, to: str = "q", **options: Any) -> None:
        with self.connection.Producer(channel=self.channel) as producer:
            for body in bodies:
                producer.publish(body, exchange=to, routing_key=to, **options)

    def consumer(self, *queues: Any, prefetch: int = 0, **options: Any) -> Any:
        """Collects messages in `received`, unacknowledged."""
        consumer = self.connection.Consumer(
            list(queues) or [self.queue],
            channel=self.channel,
            on_message=self.received.append,
            **options,
        )
        if prefetch:
            consumer.qos(prefetch_count=prefetch)
        return consumer

    def drain(self, seconds: float = 0.1) -> None:
        """Receive what comes in so long a time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self.connection.drain_events(timeout=left)
            except TimeoutError:
                return

    def receive(self, count: int = 1, seconds: float = DEADLINE_SECONDS) -> list[Any]:
        """The bodies received, once there are so many."""
        deadline = time.monotonic() + seconds
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"only {self.bodies}"
            self.drain(0.1)
        return self.bodies

    @property
    def bodies(self) -> list[Any]:
        return [message.payload for message in self.received]

    @property
    def size(self) -> int:
        return int(self.queue.queue_declare(passive=True).message_count)


@contextmanager
def peer(url: str, **options: Any) -> Iterator[Peer]:
    """A peer whose leases are short."""
    options = {"lease_seconds": LEASE_SECONDS, **options}
    with Connection(url, transport_options=options) as connection:
        yield Peer(connection)


@pytest.fixture
def one(server: Server) -> Iterator[Peer]:
    with peer(server.url) as found:
        yield found


@pytest.fixture
def other(server: Server) -> Iterator[Peer]:
    """A second process, as far as the server can tell."""
    with peer(server.url) as found:
        yield found
