"""A worker and a beat on Redis Streams, end to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from tests.factories import make_task
from tests.services import FAST, Platform, platform, until
from tests.workers_app.transports.servers import SERVERS, Server
from workers_app.models import WorkerInfo
from workers_app.transports.redis_streams import queue_stats

WORKER = "streams@test"
SETTINGS = {**FAST, "TASK_EVENTS": "1", "POLL_SECONDS": "3600"}
"""A worker that does not look by itself: what runs was rung for."""


@pytest.fixture(scope="module", params=SERVERS)
def own(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(request.param, tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def running(
    database: None, own: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("logs")
    with platform(own.url, folder, **SETTINGS) as started:
        started.beat()
        started.worker(WORKER)
        until(lambda: WorkerInfo.objects.alive().filter(name=WORKER).exists(), started)
        until(lambda: f"{WORKER} ready" in started.logs(), started)
        yield started


def stats(running: Platform, queue: str) -> Any:
    with Connection(running.broker_url) as connection:
        return queue_stats(connection, queue)


def test_fires_are_executed_and_their_doorbells_are_done(running: Platform) -> None:
    task = make_task(queue=running.queue, interval_seconds=1)
    until(lambda: task.runs.filter(status="succeeded").count() >= 3, running)

    def is_quiet() -> bool:
        found = stats(running, running.queue)
        return (found.ready, found.unacked, found.dead) == (0, 0, 0)

    until(is_quiet, running)


def test_a_worker_answers_and_tells_events(running: Platform) -> None:
    app = Celery("asker", broker=running.broker_url, set_as_current=False)
    assert app.control.ping([f"celery@{WORKER}", WORKER], timeout=5)
    seen: list[str] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(
            connection, handlers={"*": lambda event: seen.append(event["type"])}
        )

        def is_told() -> bool:
            with suppress(TimeoutError):
                receiver.capture(limit=1, timeout=3)
            return "worker-heartbeat" in seen

        until(is_told, running)


def test_a_server_that_was_killed_and_is_empty_is_used_again(
    running: Platform, own: Server
) -> None:
    own.end(signal.SIGKILL)
    own.start()
    task = make_task(queue=running.queue, interval_seconds=1)
    until(lambda: task.runs.filter(status="succeeded").count() >= 2, running)
