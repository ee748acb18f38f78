"""How full a queue is."""

from __future__ import annotations

from tests.workers_app.transports.conftest import Peer
from workers_app.transports.redis_streams import QueueStats, queue_stats


def test_a_queue_tells_what_waits_what_is_held_and_what_is_dead(one: Peer) -> None:
    one.send(1, 2, 3, priority=9)
    one.send(4)
    one.queue.get()
    one.queue.get().reject()
    found = queue_stats(one.connection, "q")
    assert (found.ready, found.unacked, found.dead, found.consumers) == (2, 1, 1, 1)
    assert found.oldest_seconds >= 0


def test_a_queue_that_is_not_there_is_empty(one: Peer) -> None:
    assert queue_stats(one.connection, "nowhere") == QueueStats(0, 0, 0, 0, 0.0)


def test_the_oldest_grows_older(one: Peer) -> None:
    one.channel.streams.client.xadd("stream:q:0", {"m": "x"}, id="1-0")
    assert queue_stats(one.connection, "q").oldest_seconds > 1_000_000
