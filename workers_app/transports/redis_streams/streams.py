"""The queues on the server, without kombu: consumer groups and who holds what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import redis

from workers_app.transports.redis_streams import scripts

GROUP = "kombu"
STALE_LEASES = 3
"""A consumer that holds nothing and has not asked for so many leases is forgotten."""
LENGTH_SECONDS = 1.0
"""What is published meanwhile may lie in a stream beyond its length."""
LENGTHS_KEPT = 1000
OLDEST = (6, 2)
"""XPENDING with IDLE, and XAUTOCLAIM, are there from Redis 6.2."""


class OldServer(Exception):
    """The server is too old for this transport."""


class QueueFull(Exception):
    """A message was refused: its stream holds as much as it may (`max_length`)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`lease_seconds`: how long a silent consumer keeps what it holds.
    `max_deliveries`: leases that may run out on a message before it is a dead letter.
    `max_dead_letters`: of a queue; older ones go. `max_length`: entries of a stream,
    0 for no bound."""

    lease_seconds: float
    max_deliveries: int
    max_dead_letters: int
    max_length: int

    @property
    def lease_ms(self) -> int:
        return max(1, round(self.lease_seconds * 1000))


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery. `lapsed`: leases that ran out on it; None at the first delivery."""

    stream: str
    id: str
    message: bytes
    lapsed: int | None = None

    @property
    def tag(self) -> str:
        """Its delivery tag: names the entry, so that an ack needs no memory."""
        return f"{self.id}@{self.stream}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was put aside by a recovery."""

    stream: str
    id: str
    deliveries: int


def place(tag: str) -> tuple[str, str]:
    """The stream and the id that a delivery tag names."""
    entry_id, _, stream = tag.partition("@")
    return stream, entry_id


def require_streams(server: Mapping[str, Any]) -> None:
    """See that the server, by its INFO, knows the commands of this transport.

    Raises:
        OldServer: it is older than Redis 6.2; any Valkey is new enough.
    """
    version = str(server.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < OLDEST:
        raise OldServer(
            f"Redis Streams as a transport need Redis 6.2 or later, or Valkey; this"
            f" server is {version}. Upgrade it, or use redis:// for lists."
        )


class Streams:
    """One consumer's view of the streams. `client` adds no prefix to keys."""

    def __init__(self, client: redis.Redis, consumer: str, limits: Limits) -> None:
        self.client = client
        self.consumer = consumer
        self.limits = limits
        self._length_seen_at: dict[str, float] = {}
        self._declare = client.register_script(scripts.DECLARE)
        self._fetch = client.register_script(scripts.FETCH)
        self._recover = client.register_script(scripts.RECOVER)
        self._ack = client.register_script(scripts.ACK)
        self._reject = client.register_script(scripts.REJECT)
        self._requeue = client.register_script(scripts.REQUEUE)
        self._release = client.register_script(scripts.RELEASE)
        self._renew = client.register_script(scripts.RENEW)
        self._size = client.register_script(scripts.SIZE)
        self._purge = client.register_script(scripts.PURGE)

    def load(self) -> None:
        """Give the server the scripts that are called by their digest alone."""
        for script in (self._fetch, self._recover):
            self.client.script_load(script.script)

    def declare(self, streams: Sequence[str], expires_ms: int = 0) -> None:
        self._declare(keys=streams, args=[GROUP, expires_ms])

    def put(self, streams: Sequence[str], message: str, expires_ms: int = 0) -> None:
        """Add to the first of `streams`; all of them expire together.

        Raises:
            QueueFull: the stream is as long as it may be.
        """
        try:
            self._require_room(streams[0])
            self._add(streams, message, expires_ms)
        except redis.ResponseError as error:
            raise redis.ResponseError(f"{error} (key {streams[0]})") from error

    def _add(self, streams: Sequence[str], message: str, expires_ms: int) -> None:
        if not expires_ms:
            self.client.xadd(streams[0], {"m": message})
            return
        pipeline = self.client.pipeline(transaction=False)
        pipeline.xadd(streams[0], {"m": message})
        for stream in streams:
            pipeline.pexpire(stream, expires_ms)
        pipeline.execute()

    def _require_room(self, stream: str) -> None:
        """Look at the length once in LENGTH_SECONDS: each time would cost a message
        another round trip. MAXLEN of XADD would drop what nobody has read."""
        most = self.limits.max_length
        seen_at = self._length_seen_at.get(stream, float("-inf"))
        if not most or monotonic() - seen_at < LENGTH_SECONDS:
            return
        if int(self.client.xlen(stream)) >= most:
            raise QueueFull(f"{stream} holds {most} messages, and takes no more")
        if len(self._length_seen_at) >= LENGTHS_KEPT:
            self._length_seen_at.clear()
        self._length_seen_at[stream] = monotonic()

    def fetch_command(self, streams: Sequence[str], most: int) -> list[Any]:
        """The command that takes up to `most` entries, the most urgent first."""
        arguments = [GROUP, self.consumer, most]
        return ["EVALSHA", self._fetch.sha, len(streams), *streams, *arguments]

    def recover_command(
        self, streams: Sequence[str], dead: Sequence[str], most: int
    ) -> list[Any]:
        """The command that takes up to `most` entries whose lease has run out; `dead`
        are the dead letters of each stream."""
        limits = self.limits
        return [
            *("EVALSHA", self._recover.sha, len(streams) * 2, *streams, *dead),
            *(GROUP, self.consumer, most, limits.lease_ms),
            *(limits.max_deliveries, limits.max_dead_letters),
            limits.lease_ms * STALE_LEASES,
        ]

    def block_command(self, streams: Sequence[str], seconds: float) -> list[Any]:
        """The command that waits for an entry of any of the streams. The server wakes
        one of those that wait."""
        return [
            *("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", 1),
            *("BLOCK", max(1, round(seconds * 1000)), "STREAMS", *streams),
            *([">"] * len(streams)),
        ]

    def call(self, command: Sequence[Any]) -> tuple[list[Entry], list[DeadLetter]]:
        """Send a fetch or a recovery, and wait for its answer."""
        client: Any = self.client  # whose method has no type
        try:
            reply = client.execute_command(*command)
        except redis.exceptions.NoScriptError:
            self.load()
            reply = client.execute_command(*command)
        return script_reply(reply)

    def ack(self, tag: str) -> None:
        stream, entry_id = place(tag)
        self._ack(keys=[stream], args=[GROUP, entry_id])

    def reject(self, tag: str, dead: str, reason: str) -> None:
        """Put a message aside, among the dead letters."""
        stream, entry_id = place(tag)
        most = self.limits.max_dead_letters
        self._reject(keys=[stream, dead], args=[GROUP, entry_id, reason, most])

    def requeue(self, tag: str) -> bool:
        """Give a message back, to the end of its stream; False if it is no longer held
        by this consumer, and so not its to give."""
        stream, entry_id = place(tag)
        return bool(self._requeue(keys=[stream], args=[GROUP, self.consumer, entry_id]))

    def release(self, streams: Iterable[str]) -> None:
        """Give back all that this consumer holds there, and forget the consumer."""
        self._release(keys=list(streams), args=[GROUP, self.consumer])

    def renew(self, stream: str, ids: Sequence[str]) -> int:
        """Keep entries for another lease.

        Returns:
            How many of them are still this consumer's.
        """
        return int(self._renew(keys=[stream], args=[GROUP, self.consumer, *ids]))

    def size(self, streams: Sequence[str]) -> int:
        """How many messages nobody holds."""
        return int(self._size(keys=streams, args=[GROUP]))

    def purge(self, streams: Sequence[str]) -> int:
        """Remove the messages that nobody holds.

        Returns:
            How many there were.
        """
        return int(self._purge(keys=streams, args=[GROUP]))


def script_reply(reply: Any) -> tuple[list[Entry], list[DeadLetter]]:
    """What a fetch or a recovery answered: deliveries, and what was put aside."""
    found, buried = reply
    entries = [_entry(key, entry_id, fields) for key, entry_id, fields in found]
    dead = [
        DeadLetter(key.decode(), entry_id.decode(), deliveries)
        for key, entry_id, deliveries in buried
    ]
    return entries, dead


def block_reply(reply: Any) -> list[Entry]:
    """What XREADGROUP answered: pairs in the protocol 2, a map in the protocol 3."""
    pairs = reply.items() if isinstance(reply, dict) else reply or ()
    return [
        _entry(key, entry_id, fields)
        for key, found in pairs
        for entry_id, fields in found
    ]


def _entry(key: bytes, entry_id: bytes, fields: Sequence[Any]) -> Entry:
    lapsed = int(fields[3]) if len(fields) > 3 else None
    return Entry(key.decode(), entry_id.decode(), fields[1], lapsed)
