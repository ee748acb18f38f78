"""The channel: kombu's for Redis, with streams where it has lists."""

from __future__ import annotations

import os
import socket
import uuid
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from queue import Empty
from time import monotonic
from typing import Any

import redis
from kombu.exceptions import VersionMismatch
from kombu.log import get_logger
from kombu.utils.json import dumps, loads
from redis.exceptions import NoScriptError, ResponseError

from workers_app.transports.redis_streams.leases import Leases
from workers_app.transports.redis_streams.qos import QoS
from workers_app.transports.redis_streams.streams import (
    DeadLetter,
    Entry,
    Limits,
    OldServer,
    Streams,
    block_reply,
    place,
    require_streams,
    script_reply,
)

# Its published types know little of what it is made of.
lists: Any = import_module("kombu.transport.redis")

RECOVERIES_A_LEASE = 4
EXPIRY_PARTS = 3
"""The expiry of a queue that is consumed is set anew when a third of it has passed."""
logger = get_logger("kombu.transport.redis_streams")


class Channel(lists.Channel):  # type: ignore[misc]  # of no type
    """Queues as consumer groups on streams, one stream a priority.

    Fanout, bindings and connections are those of kombu's Redis transport. So are the
    names below that speak of BRPOP: its poller calls them, whatever command waits.
    """

    QoS = QoS
    do_restore = True  # also where it is turned off for lists
    supports_batch_publish = False

    #: Transport options.
    lease_seconds = 30.0
    fetch_size = 64
    max_deliveries = 5
    max_dead_letters = 1000
    max_length = 1_000_000
    from_transport_options = (
        *lists.Channel.from_transport_options,
        "lease_seconds",
        "fetch_size",
        "max_deliveries",
        "max_dead_letters",
        "max_length",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._stage = ""
        self._asked: list[str] = []
        self._fetched: deque[Entry] = deque()
        self._consumed: set[str] = set()
        self._without_ack: set[str] = set()
        self._recovered_at = self._expiry_set_at = float("-inf")
        super().__init__(*args, **kwargs)
        limits = Limits(
            self.lease_seconds,
            self.max_deliveries,
            self.max_dead_letters,
            self.max_length,
        )
        name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        # Not self.Client, which would add the prefix to some keys and not to others.
        client = redis.Redis(connection_pool=self.pool)
        self.streams = Streams(client, name, limits)
        self.leases = Leases(self.streams)
        self._check_server(client)

    def _check_server(self, client: redis.Redis) -> None:
        if self.connection.is_checked:
            return
        try:
            require_streams(client.info("server"))
        except OldServer as error:
            self.connection.cycle.discard(self)
            self._disconnect_pools()
            raise VersionMismatch(str(error)) from error
        except ResponseError as error:  # INFO is not allowed to everybody
            logger.debug("The server does not tell its version: %s", error)
        self.connection.is_checked = True

    # --- names of keys ----------------------------------------------------------------

    def _q_for_pri(self, queue: str, pri: int) -> str:
        """Names of their own: lists of the same queues may lie in the same database."""
        return f"stream:{queue}:{self.priority(pri)}"

    def streams_of(self, queues: Sequence[str]) -> list[str]:
        """The most urgent first. 9 goes before 0, as on RabbitMQ."""
        return [
            self.global_keyprefix + self._q_for_pri(queue, step)
            for step in sorted(self.priority_steps, reverse=True)
            for queue in queues
        ]

    def queue_of(self, stream: str) -> str:
        name = stream[len(f"{self.global_keyprefix}stream:") :]
        return name.rpartition(":")[0]

    def dead_letters_of(self, queue: str) -> str:
        """The key of the stream that holds a queue's dead letters."""
        return f"{self.global_keyprefix}stream:{queue}:dead"

    # --- queues -----------------------------------------------------------------------

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        super()._new_queue(queue, **kwargs)
        self._declare(queue)

    def _declare(self, queue: str) -> None:
        self.streams.declare(self.streams_of([queue]), self._expires.get(queue, 0))

    def _queue_bind(self, exchange: str, *args: Any) -> None:
        super()._queue_bind(exchange, *args)
        queue = args[-1]
        if queue in self._fanout_queues:  # a subscription, which holds nothing
            self.streams.client.unlink(*self.streams_of([queue]))

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return bool(self.streams.client.exists(*self.streams_of([queue])))

    def _size(self, queue: str) -> int:
        return self.streams.size(self.streams_of([queue]))

    def _purge(self, queue: str) -> int:
        return self.streams.purge(self.streams_of([queue]))

    def queue_delete(
        self,
        queue: str,
        if_unused: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        if_empty: bool = False,  # noqa: FBT001, FBT002
        **kwargs: Any,
    ) -> None:
        """Delete a queue with its dead letters. kombu's own forgets those that this
        connection has not bound."""
        if if_empty and self._size(queue):
            return
        super().queue_delete(queue, if_unused, **kwargs)
        keys = (*self.streams_of([queue]), self.dead_letters_of(queue))
        self.streams.client.delete(*keys)

    def maybe_refresh_binding_expiry(self) -> None:
        """Called about once a second while the channel consumes."""
        super().maybe_refresh_binding_expiry()
        expiring = [queue for queue in self.active_queues if queue in self._expires]
        if not expiring:
            return
        pause = min(self._expires[queue] for queue in expiring) / 1000 / EXPIRY_PARTS
        if monotonic() - self._expiry_set_at >= pause:
            self._expiry_set_at = monotonic()
            for queue in expiring:
                self._declare(queue)

    # --- producing --------------------------------------------------------------------

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        priority = self._get_message_priority(message)
        streams = [self.global_keyprefix + self._q_for_pri(queue, priority)]
        expires_ms = self._expires.get(queue, 0)
        if expires_ms:
            streams += [key for key in self.streams_of([queue]) if key not in streams]
        self.streams.put(streams, dumps(message), expires_ms)

    # --- consuming: one command at a time on a connection that the poller watches -----

    def basic_consume(
        self,
        queue: str,
        no_ack: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        (self._without_ack.add if no_ack else self._without_ack.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _brpop_start(self, **_: Any) -> None:
        """Ask for entries: first those whose lease has run out, if it is time."""
        if self._fetched:  # a callback failed amid a batch
            self._deliver_fetched()
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        self._asked = self.streams_of(queues)
        self._consumed.update(self._asked)
        self._in_poll = self.client.connection
        self._send("recover" if self._is_recovery_due() else "fetch")

    def _is_recovery_due(self) -> bool:
        pause = self.lease_seconds / RECOVERIES_A_LEASE
        if monotonic() - self._recovered_at < pause:
            return False
        self._recovered_at = monotonic()
        return True

    def _room(self) -> int:
        room = self.qos.can_consume_max_estimate()
        return self.fetch_size if room is None else max(1, min(room, self.fetch_size))

    def _send(self, stage: str) -> None:
        commands = {
            "recover": lambda: self._recover_command(self._asked, self._room()),
            "fetch": lambda: self.streams.fetch_command(self._asked, self._room()),
            "block": lambda: self.streams.block_command(
                self._asked, self.brpop_timeout or 1
            ),
        }
        self._stage, self._brpop_sent_at = stage, monotonic()
        self.client.connection.send_command(*commands[stage]())

    def _recover_command(self, streams: Sequence[str], most: int) -> list[Any]:
        dead = [self.dead_letters_of(self.queue_of(stream)) for stream in streams]
        return self.streams.recover_command(streams, dead, most)

    def _brpop_read(self, **_: Any) -> bool:
        """Read the answer; if it is empty, ask the next question.

        Raises:
            Empty: there is nothing to deliver yet.
        """
        entries = self._answer()
        if not entries and self._stage != "block":
            self._send({"recover": "fetch", "fetch": "block"}[self._stage])
            raise Empty
        self._in_poll = None
        self._flush_brpop_reauth()
        if not entries:
            raise Empty
        self._take(entries)
        self._deliver_fetched()
        return True

    def _answer(self) -> list[Entry]:
        connection = self.client.connection
        try:
            reply = connection.read_response()
        except self.connection_errors:
            self._in_poll = None
            connection.disconnect()
            raise
        except NoScriptError:  # the server was restarted, or flushed
            self.streams.load()
            self._send(self._stage)
            raise Empty from None
        except ResponseError as error:
            self._in_poll = None
            if "NOGROUP" in str(error) or "UNBLOCKED" in str(error):
                raise Empty from None  # it was deleted; the next fetch makes it again
            raise
        if self._stage == "block":
            return block_reply(reply)
        entries, dead = script_reply(reply)
        return self._recovered(entries, dead)

    def _recovered(
        self, entries: list[Entry], dead: Sequence[DeadLetter]
    ) -> list[Entry]:
        for letter in dead:
            logger.error(
                "Message %s of %s is a dead letter after %d deliveries",
                *(letter.id, letter.stream, letter.deliveries),
            )
        # What this channel held, and could not renew in time, is not delivered again.
        return [entry for entry in entries if entry.tag not in self.leases]

    def _take(self, entries: Sequence[Entry]) -> None:
        self._queue_cycle.rotate(self.queue_of(entries[-1].stream))
        self.leases.add([entry.tag for entry in entries])
        self._fetched.extend(entries)

    def _deliver_fetched(self) -> None:
        while self._fetched:
            entry = self._fetched.popleft()
            queue = self.queue_of(entry.stream)
            if queue not in self.connection._callbacks:  # cancelled since
                self.leases.discard(entry.tag)
                self.streams.requeue(entry.tag)
            elif (message := self._message(entry)) is not None:
                if queue in self._without_ack:
                    self.streams.ack(entry.tag)
                    self.leases.discard(entry.tag)
                self.connection._deliver(message, queue)

    def _message(self, entry: Entry) -> dict[str, Any] | None:
        """The message of an entry; None if it is none, and was put aside."""
        try:
            message: dict[str, Any] = loads(entry.message.decode())
            properties = message["properties"]
            properties["delivery_tag"] = entry.tag
            if entry.lapsed is not None:
                message.setdefault("headers", {})["redelivered"] = True
                properties["delivery_info"]["redelivered"] = True
        except (ValueError, KeyError, TypeError, AttributeError):
            logger.exception("Entry %s of %s is no message", entry.id, entry.stream)
            self.put_aside(entry.tag, "unreadable")
            self.leases.discard(entry.tag)
            return None
        return message

    # --- fetching one -----------------------------------------------------------------

    def _get(self, queue: str, **_: Any) -> dict[str, Any]:
        streams = self.streams_of([queue])
        self._consumed.update(streams)
        if queue in self._expires:
            self._declare(queue)
        commands = [self.streams.fetch_command(streams, 1)]
        if self._is_recovery_due():
            commands.insert(0, self._recover_command(streams, 1))
        for command in commands:
            for entry in self._recovered(*self.streams.call(command)):
                self.leases.add([entry.tag])
                if (message := self._message(entry)) is not None:
                    return message
        raise Empty

    def basic_get(
        self,
        queue: str,
        no_ack: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        **kwargs: Any,
    ) -> Any:
        message = super().basic_get(queue, no_ack, **kwargs)
        if message and no_ack:
            self.streams.ack(message.delivery_tag)
            self.leases.discard(message.delivery_tag)
        return message

    # --- giving back ------------------------------------------------------------------

    def put_aside(self, tag: str, reason: str) -> None:
        """Move a message to the dead letters of its queue."""
        dead = self.dead_letters_of(self.queue_of(place(tag)[0]))
        self.streams.reject(tag, dead, reason)

    def release(self) -> None:
        """Give back all that is held, as well as the server allows."""
        self.leases.stop()
        self._fetched.clear()
        if not self._consumed:
            return
        try:
            self.streams.release(sorted(self._consumed))
        except (redis.RedisError, OSError) as error:
            logger.warning("Messages wait until their leases run out: %s", error)

    def close(self) -> None:
        if self.closed:
            return
        self._closing = True
        if self._in_poll:  # what it brings is given back with all else that is held
            self._in_poll.disconnect()
            self._in_poll = None
        self.qos.restore_unacked()
        super().close()
        self.streams.client.connection_pool.disconnect()

    def _after_fork(self) -> None:
        """What is held is the parent's."""
        super()._after_fork()
        self.leases = Leases(self.streams)
        self._consumed.clear()
