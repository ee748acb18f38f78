"""Doorbells: they wake workers, carry nothing, and are few however much waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.signals import after_task_publish, before_task_publish
from kombu import Connection, Queue

from tasks_app.ledger import Doorbell
from tests.factories import make_worker
from tests.services import use_broker
from workers_app import dispatch
from workers_app.dispatch import broker_breaker, door_of, queue_of, ring, shares

pytestmark = pytest.mark.django_db

BELL = Doorbell("dispatch-test", "")


@pytest.fixture(autouse=True)
def _a_broker_that_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    broker_breaker.close()
    monkeypatch.setattr(dispatch, "_workers", dispatch._Workers())  # counts anew
    monkeypatch.setattr(dispatch, "_rooms", dispatch._Rooms())


@contextmanager
def empty(broker_url: str, queue: Queue) -> Iterator[Any]:
    """A queue with nothing in it, gone at the end."""
    with Connection(broker_url) as broker, broker.channel() as channel:
        bound = queue(channel)
        bound.declare()
        bound.purge()
        yield bound
        bound.delete()


def take(queue: Any) -> Any:
    """The next message; what was published may still be on its way."""
    deadline = time.monotonic() + 10
    while (message := queue.get()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return message


@pytest.mark.parametrize(
    ("runs", "messages", "expected"),
    [
        (1, 100, [1]),
        (3, 100, [1, 1, 1]),
        (3, 2, [2, 1]),
        (5, 0, []),
        (5, -7, []),
        (33, 100, [2, *[1] * 31]),
        (10_000, 100, [*[313] * 16, *[312] * 16]),
    ],
)
def test_how_many_runs_a_message_speaks_for(
    runs: int, messages: int, expected: list[int]
) -> None:
    assert list(shares(runs, messages)) == expected


def test_a_message_carries_a_number_and_nothing_else(broker_url: str) -> None:
    with empty(broker_url, queue_of(BELL.queue)) as queue:
        with use_broker(broker_url):
            assert ring({BELL: 1}) == 1
        message = take(queue)
        message.ack()
    assert message.payload[:2] == [[], {"runs": 1}]
    assert message.properties["delivery_mode"] == 1  # of AMQP 0-9-1: not to disk


def test_who_listens_to_celery_hears_of_each_message(broker_url: str) -> None:
    heard: list[Any] = []

    def hear(sender: str, headers: dict[str, Any], **_: Any) -> None:
        heard.append((sender, headers["task"], headers["kwargsrepr"]))

    for signal in (before_task_publish, after_task_publish):
        signal.connect(hear)
    try:
        with empty(broker_url, queue_of(BELL.queue)), use_broker(broker_url):
            ring({BELL: 1})
    finally:
        for signal in (before_task_publish, after_task_publish):
            signal.disconnect(hear)
    assert heard == [("gnomon.doorbell", "gnomon.doorbell", "{'runs': 1}")] * 2


def test_a_new_connection_rings_after_the_last_one_has_gone(broker_url: str) -> None:
    with empty(broker_url, queue_of(BELL.queue)) as queue:
        for _ in range(2):
            with use_broker(broker_url):
                assert ring({BELL: 1}) == 1
        for _ in range(2):
            take(queue).ack()


def test_a_queue_never_holds_more_than_its_bound(
    broker_url: str, settings: Any
) -> None:
    settings.MAX_DOORBELLS = 40
    with empty(broker_url, queue_of(BELL.queue)) as queue, use_broker(broker_url):
        assert [ring({BELL: 10_000}) for _ in range(3)] == [32, 8, 0]
        assert queue.queue_declare().message_count == 40


def test_four_senders_together_keep_to_the_bound(
    broker_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_DOORBELLS = 40
    make_worker("a")  # so that each ring is one message
    monkeypatch.setattr(dispatch, "ROOM_SECONDS", 3600.0)
    senders = [dispatch._Rooms() for _ in range(dispatch.ROOM_PART)]
    with empty(broker_url, queue_of(BELL.queue)) as queue, use_broker(broker_url):
        for _ in range(20):
            for sender in senders:
                monkeypatch.setattr(dispatch, "_rooms", sender)
                ring({BELL: 1})
        assert queue.queue_declare().message_count == 40


def test_what_a_queue_has_room_for_is_not_asked_before_each_message(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "ROOM_SECONDS", 3600.0)
    with empty(broker_url, queue_of(BELL.queue)), use_broker(broker_url):
        ring({BELL: 1})
        with monkeypatch.context() as patch:
            patch.setattr(Queue, "queue_declare", pytest.fail)
            assert ring({BELL: 1}) == 1


def test_a_sender_does_not_remember_all_doors_that_there_ever_were(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "MAX_KNOWN", 3)
    bound, rooms = dispatch._Bound(), dispatch._Rooms()
    with Connection(broker_url) as broker, broker.channel() as channel:
        for number in range(10):
            queue = bound.of(door_of(f"gone-{number}"), channel)
            assert rooms.take(queue, 1) == 1
            assert bound.of(door_of(f"gone-{number}"), channel) is queue
            queue.delete()
    assert len(bound._queues) <= 3
    assert len(rooms._known) <= 3


def test_no_more_messages_are_sent_than_there_are_workers(broker_url: str) -> None:
    make_worker("a")
    make_worker("b")
    with empty(broker_url, queue_of(BELL.queue)) as queue, use_broker(broker_url):
        assert ring({BELL: 11}) == 2
        messages = [take(queue), take(queue)]
    assert [message.payload[1]["runs"] for message in messages] == [6, 5]


def test_a_run_for_some_workers_rings_at_the_door_of_one_that_may_take_it(
    broker_url: str,
) -> None:
    make_worker("cpu", queues=["dispatch-test"])
    make_worker("gpu", queues=["dispatch-test"], tags=["gpu"])
    with empty(broker_url, door_of("gpu")) as door, use_broker(broker_url):
        assert ring({Doorbell("dispatch-test", "gpu"): 1}) == 1
        take(door).ack()


def test_a_run_that_no_worker_may_take_rings_nowhere(broker_url: str) -> None:
    make_worker("cpu", queues=["dispatch-test"])
    with use_broker(broker_url):
        assert ring({Doorbell("dispatch-test", "gpu"): 1}) == 0


def test_a_broker_that_is_away_is_asked_a_few_times_and_then_left_alone() -> None:
    with use_broker("amqp://127.0.0.1:1//"):
        assert [ring({BELL: 1}) for _ in range(2)] == [0, 0]
        assert broker_breaker.current_state == "open"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers_app.dispatch._send", pytest.fail)
        assert ring({BELL: 1}) == 0
