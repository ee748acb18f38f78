"""Messages per second through Redis Streams, and through kombu's lists beside them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from kombu import Connection, Exchange, Queue

from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from workers_app.transports import profile

PREFETCHES = (1, 16)
"""1 is what a worker of Gnomon holds (`workers_app.pool.PREFETCH`)."""
BODY = {"runs": 1}
DRAIN_SECONDS = 10.0
TARGET_RATIO = 1
PEER = "kombu's Redis lists"


def brokers(rig: Rig, *, messages: int) -> Iterator[Row]:
    """Produce and consume `messages` messages, both ways in turns; the rates are the
    medians of the rounds. Only where the rig's broker is a `redis://...`."""
    if urlsplit(rig.broker_url).scheme != "redis":
        rig.plan.tell("Messages are measured on redis:// only.")
        return
    urls = {"lists": rig.broker_url, "streams": _streams_url(rig.broker_url)}
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(rig.plan.rounds):
        for name, url in urls.items():
            for what, rate in _measure(url, messages):
                rates.setdefault((what, name), []).append(rate)
    for what in ("published", *map(_label, PREFETCHES)):
        peer = median(rates[what, "lists"])
        yield Row(
            name=f"Messages {what}, Redis Streams",
            value=median(rates[what, "streams"]),
            unit="messages/s",
            # Publishing is one command either way.
            target=None if what == "published" else TARGET_RATIO * peer,
            peer=PEER,
            peer_value=peer,
        )


def _streams_url(redis_url: str) -> str:
    return urlsplit(redis_url)._replace(scheme="redisstream").geturl()


def _label(prefetch: int) -> str:
    return f"consumed and acknowledged, prefetch {prefetch}"


def _measure(url: str, messages: int) -> Iterator[tuple[str, float]]:
    for prefetch in PREFETCHES:
        with _queue(url) as (connection, queue):
            published = _publish(connection, queue, messages)
            if prefetch == PREFETCHES[0]:
                yield "published", published
            yield _label(prefetch), _consume(connection, queue, messages, prefetch)


@contextmanager
def _queue(url: str) -> Iterator[tuple[Connection, Queue]]:
    """A queue that is gone afterwards."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    options = profile(url)["broker_transport_options"]
    with Connection(url, transport_options=options) as connection:
        queue: Any = Queue(name, Exchange(name), routing_key=name)
        queue = queue(connection.default_channel)
        queue.declare()
        try:
            yield connection, queue
        finally:
            queue.delete()


def _publish(connection: Connection, queue: Queue, messages: int) -> float:
    producer: Any = connection.Producer()
    started = time.perf_counter()
    for _ in range(messages):
        producer.publish(BODY, exchange=queue.name, routing_key=queue.name)
    return messages / (time.perf_counter() - started)


def _consume(
    connection: Connection, queue: Queue, messages: int, prefetch: int
) -> float:
    left = messages

    def receive(message: Any) -> None:
        nonlocal left
        message.ack()
        left -= 1

    with connection.channel() as channel:
        consumer: Any = connection.Consumer([queue], channel=channel)
        consumer.on_message = receive
        consumer.qos(prefetch_count=prefetch)
        with consumer:
            started = time.perf_counter()
            while left:
                connection.drain_events(timeout=DRAIN_SECONDS)
            return messages / (time.perf_counter() - started)
