"""Doorbells: one run a message when it is calm, several when many wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import current_app
from kombu import Connection, Queue

from tasks_app.ledger import Doorbell
from tasks_app.models import TaskRun
from tests.factories import make_run, make_task
from workers_app.dispatch import messages, ring


@contextmanager
def use_broker(url: str) -> Iterator[None]:
    """Send through this broker."""
    with Connection(url, connect_timeout=1) as broker, broker.Producer() as producer:

        @contextmanager
        def acquire(_given: object = None) -> Iterator[Any]:
            yield producer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(current_app, "producer_or_acquire", acquire)
            yield


def bells(count: int, queue: str = "default") -> list[Doorbell]:
    return [Doorbell(number, queue) for number in range(count)]


@pytest.mark.parametrize(
    ("runs", "expected_messages", "longest"),
    [(1, 1, 1), (8, 8, 1), (15, 15, 1), (16, 8, 2), (100, 9, 12), (1000, 50, 20)],
)
def test_how_many_runs_a_message_names(
    runs: int, expected_messages: int, longest: int
) -> None:
    sent = list(messages(bells(runs)))
    assert len(sent) == expected_messages
    assert max(len(ids) for _, ids in sent) == longest
    assert [run_id for _, ids in sent for run_id in ids] == list(range(runs))


def test_each_queue_has_messages_of_its_own() -> None:
    sent = list(messages([*bells(1, "a"), *bells(1, "b")]))
    assert sent == [("a", [0]), ("b", [0])]


@pytest.mark.django_db
def test_a_message_names_runs_and_nothing_else(
    broker_url: str,
) -> None:
    run = make_run(make_task(queue="dispatch-test"), params={"secret": "s3cret"})
    with Connection(broker_url) as broker, broker.channel() as channel:
        queue = Queue("dispatch-test", channel=channel)
        queue.declare()
        queue.purge()
        with use_broker(broker_url):
            assert ring([run.pk]) == 1
        message = queue.get()
        assert message
        message.ack()
        queue.delete()
    assert message.payload[:2] == [[], {"run_ids": [run.pk]}]
    assert "s3cret" not in str(message.body)


@pytest.mark.django_db
def test_a_broker_that_is_away_leaves_the_runs_due_again_soon() -> None:
    run = make_run()
    with use_broker("amqp://127.0.0.1:1//"):
        assert ring([run.pk]) == 0
    row = TaskRun.objects.get(pk=run.pk)
    assert row.publish_count == 0
    assert (row.next_publish_at - row.created_at).total_seconds() < 10
