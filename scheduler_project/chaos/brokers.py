"""The broker of a trial: an embedded one that may be killed, or somebody's."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import redis
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from workers_app.dispatch import door_of, queue_of

RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672//"
CONNECT_SECONDS = 5


def broker_url(name: str) -> str | None:
    """The address that `--broker` names; None for an embedded Valkey.

    `rabbitmq` is BROKER_URL if that is one, else the one of this machine.
    """
    if name == "valkey":
        return None
    if name == "rabbitmq":
        url = os.environ.get("BROKER_URL", "")
        return url if urlsplit(url).scheme.startswith("amqp") else RABBITMQ_URL
    return name


def wipe_own(url: str) -> None:
    """Empty an embedded Valkey. One that is down is as good as empty."""
    client = redis.Redis.from_url(url, socket_timeout=2)
    with client, suppress(redis.RedisError):
        client.flushall()


class OwnQueues:
    """The queues of a trial on a broker that others may use as well."""

    def __init__(self, url: str, queue: str, workers: Sequence[str]) -> None:
        self._url = url
        self._queue = queue
        self._workers = workers

    def wipe(self) -> None:
        self._each(lambda queue: queue.purge())

    def delete(self) -> None:
        self._each(lambda queue: queue.delete())

    def remove(self) -> None:
        """Leave nothing behind: the queues, and the exchange of their name."""
        self.delete()
        self._each(_delete_exchange)

    def _each(self, act: Callable[[Queue], object]) -> None:
        """Each on a connection of its own, which an error may close: a queue that is
        not there (yet) is as good as empty."""
        for queue in (queue_of(self._queue), *map(door_of, self._workers)):
            broker = Connection(self._url, connect_timeout=CONNECT_SECONDS)
            errors: tuple[type[BaseException], ...] = (
                *(OperationalError, OSError),
                *(*broker.connection_errors, *broker.channel_errors),
            )
            with broker, suppress(*errors):
                act(queue(broker.default_channel))


def _delete_exchange(queue: Queue) -> None:
    if queue.exchange.name:  # not the default one
        queue.exchange.delete()
