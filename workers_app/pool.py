"""The worker's Celery pool: doorbells go to the runner, other tasks to threads.

Celery's own hook for a pool of one's own (`worker_pool`). A doorbell is acknowledged as
soon as the worker has room, since it carries nothing that could be lost; a full worker
leaves it to others.
"""

from __future__ import annotations

import gc
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool, apply_target
from celery.worker import state
from celery.worker.control import control_command
from django.conf import settings
from django.db import DatabaseError, connection
from kombu.serialization import loads

from executors.containment import hide_process
from workers_app.files import files_allow
from workers_app.tasks import DOOR, HEARTBEAT

if TYPE_CHECKING:
    from workers_app.heartbeat import Heartbeat
    from workers_app.runner import Runner

log = structlog.get_logger()

DOORBELL = "gnomon.doorbell"
PREFETCH = 1
"""Doorbells held at a time: a full worker does not sit on what another could answer."""
ACCEPTED = frozenset({"application/json"})
OTHER_TASK_THREADS = 4
NEW_OBJECTS = 5_000
"""How many more objects there are when the garbage collector looks: under 1 MB."""


class _Answer:
    """What `apply_async` gives back: Celery keeps a weak reference to it."""

    __slots__ = ("__weakref__",)

    def terminate(self, signal: Any = None) -> None:
        """Asked for at a cold shutdown, when the pool itself stops all jobs."""


_ANSWER = _Answer()


class AsyncioPool(BasePool):
    """Up to `limit` runs on one event loop, in a thread beside Celery's."""

    signal_safe = False
    body_can_be_buffer = True

    def on_start(self) -> None:
        # Here, for Celery's command line imports the pool before Django has models.
        from workers_app.database import wait_for_database  # noqa: PLC0415
        from workers_app.dispatch import door_of  # noqa: PLC0415
        from workers_app.heartbeat import Heartbeat  # noqa: PLC0415
        from workers_app.registration import (  # noqa: PLC0415
            containment_note,
            worker_register,
        )
        from workers_app.runner import Runner  # noqa: PLC0415

        hide_process()  # from jobs of the same user, which would read its secrets
        files_allow(self.limit)
        wait_for_database()
        name = self.options["initargs"][1].removeprefix("celery@")
        queues = list(self.app.amqp.queues.consume_from)
        worker = worker_register(
            name, max_tasks=self.limit, queues=queues, tags=settings.WORKER_TAGS
        )
        self.app.amqp.queues.select_add(door_of(name))
        self._worker_id = worker.pk
        self._runner: Runner = Runner(worker, self.limit)
        self._heartbeat: Heartbeat = Heartbeat(worker.pk, self._runner, self.limit)
        self._threads = ThreadPoolExecutor(OTHER_TASK_THREADS, "tasks")
        self._calls: deque[Callable[[], object]] = deque()
        self._hub_wake: socket.socket | None = None
        self._is_closed = False
        containment_note(worker.pk, self._runner.start())
        self._heartbeat.start()
        connection.close()  # of this thread, which asks no more
        _spare_collector()
        log.info("worker.started", worker=name, slots=self.limit)

    def register_with_event_loop(self, hub: Any) -> None:
        """Have Celery's callbacks run in the hub's thread: channels are not
        thread-safe. A socket pair wakes the hub."""
        receiver, self._hub_wake = socket.socketpair()
        for end in (receiver, self._hub_wake):
            end.settimeout(0)
        hub.add_reader(receiver, self._run_calls, receiver)

    def _run_calls(self, receiver: socket.socket) -> None:
        with suppress(BlockingIOError):
            receiver.recv(4096)
        while self._calls:
            self._calls.popleft()()

    def _in_hub(self, call: Callable[[], object]) -> None:
        if self._hub_wake is None:
            call()
            return
        self._calls.append(call)
        with suppress(OSError):  # it has more than enough to wake it, or has gone
            self._hub_wake.send(b"\0")

    def _by_hub(self, call: Callable[..., object]) -> Callable[..., None]:
        """The same call, made in the hub's thread."""
        return lambda *args, **kwargs: self._in_hub(partial(call, *args, **kwargs))

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        **options: Any,
    ) -> Any:
        """Take a task from Celery. Nothing may escape: it would end the worker."""
        if args[0] != DOORBELL:
            return self._threads.submit(
                apply_target,
                target,
                args,
                kwargs,
                self._by_hub(options["callback"]),
                self._by_hub(options["accept_callback"]),
            )
        loop = self._runner.loop
        loop.call_soon_threadsafe(lambda: loop.create_task(self._answer(args, options)))
        return _ANSWER

    async def _answer(self, args: Any, options: Any) -> None:
        started = time.monotonic()
        accept, done = options["accept_callback"], options["callback"]
        try:
            await self._runner.wake(_runs(*args[3:6]), is_called=_is_own(args[2]))
            answer: tuple[int, Any] = 0, None
        except Exception:  # a doorbell that cannot be read must not be sent again
            log.exception("doorbell.refused")
            answer = 1, ExceptionInfo()
        self._in_hub(partial(accept, os.getpid(), started))
        self._in_hub(partial(done, (*answer, time.monotonic() - started)))

    def heartbeat_soon(self) -> None:
        """Learn what is to be stopped, without waiting for the next heartbeat."""
        self._heartbeat.soon()

    def on_stop(self) -> None:
        """Warm shutdown: claim nothing more, and let what runs come to its end.
        A cold one, which may come while this waits, stops it."""
        if not state.should_terminate:
            log.info("worker.draining", runs=len(self._runner.leases()))
            self._runner.drain(None)
            self._threads.shutdown()
        self._close()

    def on_terminate(self) -> None:
        """Cold shutdown: stop what runs, and report it."""
        self._close()

    def _close(self) -> None:
        from workers_app.registration import worker_offline  # noqa: PLC0415 - as above

        if self._is_closed:
            return
        self._is_closed = True
        self._runner.stop()
        self._heartbeat.stop()
        self._threads.shutdown(wait=False)
        try:
            worker_offline(self._worker_id)
        except DatabaseError as error:  # beat will note the silence
            log.warning("worker.offline_untold", error=str(error).strip())

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Celery's revoke decides nothing here: runs are cancelled by the ledger."""

    @property
    def num_processes(self) -> int:
        return min(int(self.limit), PREFETCH)

    def _get_info(self) -> dict[str, Any]:
        info = super()._get_info()  # type: ignore[misc]  # not in celery-types
        return {**info, "runs": len(self._runner.leases())}


@control_command(name=HEARTBEAT)
def _heartbeat(state: Any) -> None:
    """Look at the runs now: some are to stop."""
    state.consumer.pool.heartbeat_soon()


def _spare_collector() -> None:
    """Have the garbage collector pass over all that is there at the start, which stays
    for good: to look through it again and again was a tenth of a busy worker's CPU. And
    have it look seldom: runs leave no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


def _is_own(request: Any) -> bool:
    """Whether a doorbell came by this worker's own door."""
    address = request["delivery_info"]["routing_key"]
    return isinstance(address, str) and address.startswith(DOOR)


def _runs(body: Any, content_type: str, encoding: str) -> int:
    """How many runs a doorbell speaks for.

    Raises:
        ContentDisallowed: it is not JSON.
        ValueError: it holds anything but a number of runs.
    """
    data = bytes(body) if isinstance(body, memoryview) else body
    # Celery refuses other types before; what would run code is not left to that alone.
    _args, kwargs, _embed = loads(data, content_type, encoding, accept=ACCEPTED)
    runs = kwargs.get("runs", 0)
    if type(runs) is not int or runs < 0 or len(kwargs) > 1:
        raise ValueError("a doorbell holds a number of runs, and nothing else")
    return runs
