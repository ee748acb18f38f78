"""How full a queue is, for metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
from kombu import Connection

from workers_app.transports.redis_streams.streams import GROUP


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Messages of a queue that nobody holds (`ready`), that consumers hold (`unacked`),
    that were put aside (`dead`); and the age of the oldest that is not done. Some
    servers (Redis 7.0) count a consumer only once it was given a message."""

    ready: int
    unacked: int
    dead: int
    consumers: int
    oldest_seconds: float


def queue_stats(connection: Connection, queue: str) -> QueueStats:
    """Look at a queue, by XINFO. A queue that is not there is empty.

    Raises:
        kombu.exceptions.OperationalError: the server does not answer.
    """
    channel: Any = connection.default_channel
    client: redis.Redis = channel.streams.client
    length = unacked = 0
    consumers: set[bytes] = set()
    oldest: list[int] = []
    for stream in channel.streams_of([queue]):
        info, group = _look(client, stream)
        length += info.get("length", 0)
        unacked += group.get("pending", 0)
        if group:
            found: Any = client.xinfo_consumers(stream, GROUP)
            consumers.update(consumer["name"] for consumer in found)
        if first := info.get("first-entry"):
            oldest.append(int(first[0].split(b"-")[0]))
    seconds, micros = client.time()
    now_ms = seconds * 1000 + micros // 1000
    return QueueStats(
        ready=length - unacked,
        unacked=unacked,
        dead=client.xlen(channel.dead_letters_of(queue)),
        consumers=len(consumers),
        oldest_seconds=max(0, now_ms - min(oldest, default=now_ms)) / 1000,
    )


def _look(client: redis.Redis, stream: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """XINFO of the stream and of the group, empty if they are not there."""
    if not client.exists(stream):
        return {}, {}
    info: Any = client.xinfo_stream(stream)
    groups: Any = client.xinfo_groups(stream)
    ours = [group for group in groups if group["name"] == GROUP.encode()]
    return info, ours[0] if ours else {}
