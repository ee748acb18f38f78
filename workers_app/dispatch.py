"""Dispatch: ring for runs that may be claimed.

The rows are the queue. A doorbell is a Celery message that wakes a worker, which then
claims the best runs of its queues; losing one costs what is left of POLL_SECONDS.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import pybreaker
import structlog
from celery import current_app
from celery.utils import uuid
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from kombu import Exchange, Producer, Queue
from kombu.exceptions import OperationalError as BrokerError

from tasks_app import ledger
from tasks_app.ledger import Doorbell
from tasks_app.rules.placement import WorkerView, can_take, least_loaded
from workers_app.models import WorkerInfo
from workers_app.tasks import DOOR, HEARTBEAT, doorbell

log = structlog.get_logger()

MESSAGES_A_RING = 32
"""Up to so many runs get a message each, which spreads them best; beyond, a message
speaks for several, and the workers that it wakes claim until nothing waits. Nor are
there more messages than workers: each is some 0.3 ms of CPU for the sender."""
DOOR_SECONDS = 60
MAX_KNOWN = 100
"""Queues that a sender keeps in mind. It forgets all when there are more, for doors
come and go with their workers, and begins again."""
TRANSIENT = "transient"
"""A doorbell is worth no write to the broker's disk."""
ROOM_SECONDS = 1.0
ROOM_PART = 4
"""A queue is asked how many messages lie in it when the answer before is a second old,
or a part of the room that it told of is used up: the rest is the other senders'. To ask
is a round trip, which would come before each message."""
BROKER_FAILURES = 2
BROKER_PAUSE_SECONDS = 5

broker_breaker = pybreaker.CircuitBreaker(
    fail_max=BROKER_FAILURES,
    reset_timeout=BROKER_PAUSE_SECONDS,
    name="broker",
    # A call that fails is told as it is, also the one that opens the breaker.
    throw_new_error_on_trip=False,
)
"""While the broker is away, one message in BROKER_PAUSE_SECONDS tries it; the others
are dropped at once, and workers find the runs by themselves."""


@lru_cache
def queue_of(name: str) -> Queue:
    """The broker's queue of doorbells for a queue of runs."""
    return Queue(name, Exchange(name, delivery_mode=TRANSIENT), routing_key=name)


def door_of(worker_name: str) -> Queue:
    """The queue of doorbells that only this worker reads; gone a while after it."""
    name = f"{DOOR}{worker_name}"
    exchange = Exchange("", delivery_mode=TRANSIENT)
    return Queue(name, exchange, routing_key=name, expires=DOOR_SECONDS)


class _Workers:
    """How many workers live, asked for once a heartbeat."""

    def __init__(self) -> None:
        self._count = 0
        self._known_until = 0.0

    def count(self) -> int:
        now = time.monotonic()
        if now >= self._known_until:
            self._count = WorkerInfo.objects.alive().count()
            self._known_until = now + settings.HEARTBEAT_SECONDS
        return self._count


_workers = _Workers()


class _Bound:
    """The queues as they are bound to the channel that they were last sent by: to bind
    one takes as long as to send."""

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}

    def of(self, queue: Queue, channel: Any) -> Queue:
        kept = self._queues.get(queue.name)
        if kept is None or kept.channel is not channel:
            if len(self._queues) >= MAX_KNOWN:
                self._queues.clear()
            kept = self._queues[queue.name] = queue(channel)
        return kept


class _Rooms:
    """How many more messages may be sent to each queue of the broker."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}

    def take(self, queue: Queue, wanted: int) -> int:
        """Room for up to `wanted` messages, which are then sent. The queue is bound."""
        now = time.monotonic()
        room, until = self._known.get(queue.name, (0, 0.0))
        if now < until and wanted <= room:
            self._known[queue.name] = room - wanted, until
            return wanted
        # Declaring tells how many messages lie there unread.
        declared: Any = queue.queue_declare()
        room = max(int(settings.MAX_DOORBELLS - declared.message_count), 0)
        taken = min(wanted, room)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[queue.name] = (room - taken) // ROOM_PART, now + ROOM_SECONDS
        return taken


_bound = _Bound()
_rooms = _Rooms()


def ring(waiting: Mapping[Doorbell, int]) -> int:
    """Wake workers for runs that wait, so many by queue and lane, or that are to stop.

    Returns:
        How many messages were sent: none while the broker does not answer.
    """
    try:
        return int(broker_breaker.call(_send, waiting))
    except pybreaker.CircuitBreakerError:
        return 0
    except _broker_errors() as error:
        log.warning("dispatch.broker_away", error=str(error))
        return 0


@cache
def _broker_errors() -> tuple[type[BaseException], ...]:
    transport = current_app.connection_for_write()
    return BrokerError, *transport.connection_errors, *transport.channel_errors


def _send(waiting: Mapping[Doorbell, int]) -> int:
    sent = 0
    workers = ledger.workers() if any(bell.lane for bell in waiting) else []
    with current_app.producer_or_acquire() as producer:
        if called := {bell.worker_id for bell in waiting if bell.worker_id is not None}:
            _call(called, producer)
            sent += 1
        for bell, runs in waiting.items():
            queue = _queue(bell, workers)
            if queue is None:
                continue
            queue = _bound.of(queue, producer.channel)
            most = min(runs, _workers.count() or MESSAGES_A_RING, MESSAGES_A_RING)
            for count in shares(runs, _rooms.take(queue, most)):
                _publish(count, queue, producer)
                sent += 1
    return sent


def _publish(runs: int, queue: Queue, producer: Producer) -> None:
    """As `doorbell.apply_async`, with its signals and its event, but without what takes
    a third of its time: the look for a route, and a result to wait for."""
    amqp, kwargs = current_app.amqp, {"runs": runs}
    message = amqp.create_task_message(
        uuid(),
        doorbell.name,
        kwargs=kwargs,
        argsrepr="()",
        kwargsrepr=str(kwargs),
        create_sent_event=settings.TASK_EVENTS,
        ignore_result=True,
    )
    amqp.send_task_message(producer, doorbell.name, message, queue=queue, retry=False)


def _call(worker_ids: Collection[int], producer: Producer) -> None:
    """Have these workers look at their runs now, by Celery's remote control: a full
    worker answers no doorbell before it has room. As `app.control.broadcast`, which
    would try again for ever."""
    names = WorkerInfo.objects.filter(pk__in=worker_ids).values_list("name", flat=True)
    control: Any = current_app.control
    exchange = control.mailbox.exchange
    producer.publish(
        {
            "method": HEARTBEAT,
            "arguments": {},
            "destination": [node_name(name) for name in names],
        },
        exchange=exchange,
        declare=[exchange],
        serializer="json",
        headers={"clock": 0, "expires": 0},
        retry=False,
    )


def node_name(worker_name: str) -> str:
    """How Celery calls the worker of that name."""
    return worker_name if "@" in worker_name else f"celery@{worker_name}"


def shares(runs: int, messages: int) -> Iterator[int]:
    """How many runs each message speaks for, over at most `messages` messages."""
    messages = min(runs, messages, MESSAGES_A_RING)
    for number in range(messages):
        yield runs // messages + (number < runs % messages)


def _queue(bell: Doorbell, workers: Sequence[WorkerView]) -> Queue | None:
    """Where to ring: at the queue, or at the door of a worker that may take the run.

    None if no worker may, or all are full: the run waits for one. None, too, where a
    worker is called by its id.
    """
    if bell.worker_id is not None:
        return None
    if not bell.lane:
        return queue_of(bell.queue)
    best = least_loaded(w for w in workers if not can_take(w, bell.queue, bell.lane))
    return door_of(best.name) if best else None


class Ringer:
    """Rings in the background for the runs that `runs_ready` tells of.

    So neither a request, nor beat, nor the writer waits for the broker, and runs that
    become ready together share a round trip.
    """

    def __init__(self) -> None:
        self._bells: deque[Doorbell] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, doorbells: Sequence[Doorbell]) -> None:
        """Ring these soon. The thread starts with the first, so that a process that
        forks after import (gunicorn) has its own."""
        with self._wake:
            self._bells.extend(doorbells)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="ringer", daemon=True
                )
                self._thread.start()
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._bells:
                    self._wake.wait()
                waiting = Counter(self._bells)
                self._bells.clear()
            try:
                ring(waiting)
            except (DatabaseError, InterfaceError) as error:
                log.warning("dispatch.database_away", error=str(error).strip())
                connection.close()
            except Exception:  # a thread that ends would silence every doorbell
                log.exception("dispatch.failed", runs=sum(waiting.values()))


ringer = Ringer()
