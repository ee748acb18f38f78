"""What every transport of kombu does, and what this one does as RabbitMQ."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.exceptions import ChannelError

import workers_app.transports  # noqa: F401 - makes the scheme known
from tests.workers_app.transports.conftest import Peer, peer
from tests.workers_app.transports.servers import Server
from workers_app.transports.redis_streams import QueueFull


@pytest.mark.parametrize(
    "body", [{"a": [1, None]}, "grüße 你好", 0, None, [], b"\x00\xff"]
)
def test_a_message_arrives_as_it_was_sent(one: Peer, body: Any) -> None:
    one.send(body)
    message = one.queue.get()
    assert message.payload == body
    message.ack()


def test_headers_and_properties_arrive(one: Peer) -> None:
    one.send(1, headers={"h": "x"}, reply_to="r", correlation_id="c")
    message = one.queue.get(no_ack=True)
    assert message.headers["h"] == "x"
    assert message.properties["reply_to"] == "r"
    assert message.properties["correlation_id"] == "c"
    assert not message.delivery_info.get("redelivered")


def test_an_empty_queue_gives_nothing(one: Peer) -> None:
    assert one.queue.get() is None


def test_waiting_for_nothing_ends_in_time(one: Peer) -> None:
    with one.consumer(), pytest.raises(socket.timeout):
        one.connection.drain_events(timeout=0.1)


def test_messages_of_one_priority_arrive_in_order(one: Peer) -> None:
    one.send(*range(150))  # more than one fetch
    with one.consumer():
        assert one.receive(150) == list(range(150))


def test_a_message_that_comes_later_wakes_the_consumer(one: Peer, other: Peer) -> None:
    with one.consumer():
        one.drain(0.3)
        other.send("late")
        assert one.receive() == ["late"]


@pytest.mark.parametrize("by_get", [True, False])
def test_the_most_urgent_message_comes_first(one: Peer, by_get: bool) -> None:  # noqa: FBT001
    for priority in (0, 3, 9, 6, 9, 0, None):
        one.send(priority, priority=priority)
    expected = [9, 9, 6, 3, 0, 0, None]
    if by_get:
        found = [one.queue.get().payload for _ in expected]
    else:
        with one.consumer():
            found = one.receive(len(expected))
    assert found == expected


def test_a_priority_between_two_steps_belongs_to_the_lower(one: Peer) -> None:
    for priority in (1, 4, 8, 99, -1):
        one.send(priority, priority=priority)
    with one.consumer():
        assert one.receive(5) == [99, 8, 4, 1, -1]


def test_priorities_hold_over_several_queues(one: Peer) -> None:
    second = one.bind("second")
    one.send("low", priority=0)
    one.send("high", to="second", priority=9)
    with one.consumer(one.queue, second):
        assert one.receive(2) == ["high", "low"]


def test_steps_of_ones_own(server: Server) -> None:
    with peer(server.url, priority_steps=list(range(10))) as one:
        for priority in (1, 4, 2):
            one.send(priority, priority=priority)
        with one.consumer():
            assert one.receive(3) == [4, 2, 1]


def test_a_busy_queue_does_not_keep_another_waiting(server: Server) -> None:
    with peer(server.url, fetch_size=2) as one:
        second = one.bind("second")
        one.send(*["first"] * 20)
        one.send("second", to="second")
        with one.consumer(one.queue, second):
            assert "second" in one.receive(21)[:6]


def test_no_more_than_the_prefetch_is_held(one: Peer, other: Peer) -> None:
    one.send(*range(10))
    with one.consumer(prefetch=3):
        one.receive(3)
        one.drain(0.3)
        assert one.bodies == [0, 1, 2]
        assert other.size == 7
        one.received[0].ack()
        assert one.receive(4) == [0, 1, 2, 3]


def test_an_acknowledged_message_is_gone(one: Peer, server: Server) -> None:
    one.send("x")
    one.queue.get().ack()
    with server.client as client:
        assert client.xlen("stream:q:0") == 0
        pending: Any = client.xpending("stream:q:0", "kombu")
    assert pending["pending"] == 0


def test_a_requeued_message_comes_back_and_says_so(one: Peer) -> None:
    one.send("x")
    one.queue.get().requeue()
    again = one.queue.get()
    assert again.payload == "x"
    assert again.delivery_info["redelivered"]
    again.ack()
    assert one.size == 0


def test_a_rejected_message_is_put_aside(one: Peer, server: Server) -> None:
    one.send("x")
    one.queue.get().reject()
    assert one.queue.get() is None
    with server.client as client:
        [(_, fields)] = client.xrange("stream:q:dead")
    assert fields[b"reason"] == b"rejected"


def test_a_consumer_without_acknowledgements_holds_nothing(
    one: Peer, server: Server
) -> None:
    one.send("x")
    with one.consumer(no_ack=True):
        one.receive()
    with server.client as client:
        assert client.xlen("stream:q:0") == 0


def test_a_get_without_acknowledgement_holds_nothing(one: Peer, server: Server) -> None:
    one.send("x")
    one.queue.get(no_ack=True)
    with server.client as client:
        assert client.xlen("stream:q:0") == 0


def test_a_cancelled_consumer_receives_nothing_more(one: Peer) -> None:
    second = one.bind("second")
    with one.consumer(second):
        with one.consumer():
            pass
        one.send("x")
        one.drain(0.2)
    assert one.bodies == []
    assert one.size == 1


def test_a_callback_that_fails_loses_nothing(one: Peer) -> None:
    one.send(1, 2, 3)

    def fail_once(message: Any) -> None:
        if not one.received:
            one.received.append(message)
            raise RuntimeError("once")
        one.received.append(message)

    consumer = one.consumer()
    consumer.on_message = fail_once
    with consumer:
        with pytest.raises(RuntimeError, match="once"):
            one.drain(5)
        assert one.receive(3) == [1, 2, 3]


def test_the_size_counts_what_nobody_holds(one: Peer) -> None:
    one.send(1, 2, 3)
    one.queue.get()
    assert one.size == 2


def test_a_purge_leaves_what_is_held(one: Peer) -> None:
    one.send(1, 2, 3, priority=3)
    one.send(4)
    held = one.queue.get()
    assert one.queue.purge() == 3
    held.requeue()
    assert one.queue.get().payload == 1


def test_a_passive_declaration_finds_a_queue_that_is_empty(one: Peer) -> None:
    assert one.queue.queue_declare(passive=True).message_count == 0
    with pytest.raises(ChannelError, match="nobody"):
        Queue("nobody")(one.channel).queue_declare(passive=True)


def test_a_deleted_queue_leaves_no_key(one: Peer, server: Server) -> None:
    one.send("x")
    one.queue.get().reject()
    one.queue.delete()
    with server.client as client:
        assert client.keys("stream:*") == []


def test_a_queue_is_deleted_by_one_who_did_not_bind_it(
    one: Peer, server: Server
) -> None:
    one.send("x")
    with Connection(server.url) as stranger:
        Queue("q")(stranger.default_channel).delete()
    with server.client as client:
        assert client.keys("stream:*") == []


def test_a_deleted_queue_that_is_consumed_comes_again(one: Peer, other: Peer) -> None:
    with one.consumer():
        one.drain(0.2)
        other.queue.delete()
        one.drain(0.2)
        other.bind("q")
        other.send("x")
        assert one.receive() == ["x"]


def test_a_queue_deleted_before_the_consumer_waits_comes_again(
    one: Peer, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = one.channel._send
    deleted: list[Any] = []

    def delete_and_send(stage: str) -> None:
        if stage == "block" and not deleted:
            with server.client as client:
                deleted.append(client.delete(*one.channel.streams_of(["q"])))
        send(stage)

    monkeypatch.setattr(one.channel, "_send", delete_and_send)
    with one.consumer():
        one.drain(0.3)
        assert deleted == [4]
        one.send("x")
        assert one.receive() == ["x"]


def test_an_unused_queue_expires(one: Peer, server: Server, wait_until: Any) -> None:
    one.bind("door", expires=0.3)
    one.send("x", to="door")
    with server.client as client:
        assert client.keys("stream:door:*")
        wait_until(lambda: not client.keys("stream:door:*"))


def test_a_queue_that_is_consumed_does_not_expire(one: Peer, server: Server) -> None:
    door = one.bind("door", expires=2)
    one.send("x", to="door")
    with one.consumer(door), server.client as client:
        one.receive()
        one.drain(2.5)
        assert client.xlen("stream:door:0") == 1  # it is held, and still there


def test_a_broadcast_reaches_all_and_leaves_no_key(
    one: Peer, other: Peer, server: Server
) -> None:
    news = Exchange("news", type="fanout")
    first, second = (Queue(name, news)(one.channel) for name in ("a", "b"))
    second = second(other.channel)
    with one.consumer(first), other.consumer(second):
        one.drain(0.2)
        other.drain(0.2)
        one.connection.Producer(exchange=news).publish("hello", declare=[news])
        assert one.receive() == ["hello"]
        assert other.receive() == ["hello"]
    with server.client as client:
        assert [key for key in client.keys("stream:*") if b":q:" not in key] == []


def test_a_topic_reaches_the_queues_that_match(one: Peer) -> None:
    topic = Exchange("topic", type="topic")
    queues = [Queue(key, topic, routing_key=key) for key in ("a.*", "b.*")]
    bound: list[Any] = [queue(one.channel) for queue in queues]
    for queue in bound:
        queue.declare()
    producer = one.connection.Producer(channel=one.channel, exchange=topic)
    producer.publish("x", routing_key="a.1")
    assert bound[0].get().payload == "x"
    assert bound[1].get() is None


def test_a_full_queue_refuses_and_drops_nothing(server: Server) -> None:
    with peer(server.url, max_length=2) as one:
        one.send(1, 2)
        with peer(server.url, max_length=2) as late:
            with pytest.raises(QueueFull, match="stream:q:0 holds 2"):
                late.send(3)
            late.queue.get().ack()
            late.send(3)
        assert [one.queue.get().payload for _ in range(2)] == [2, 3]


def test_the_prefix_stands_before_every_key(server: Server) -> None:
    with peer(server.url, global_keyprefix="mine:") as one:
        one.send("x", priority=9)
        one.send("rejected")
        with one.consumer():
            first, second = one.receive(2), one.received
            assert first == ["x", "rejected"]
            second[0].requeue()
            second[1].reject()
            assert one.receive(3)[2] == "x"
            second[2].ack()
        assert one.size == 0
        with server.client as client:
            assert all(key.startswith(b"mine:") for key in client.keys("*"))
            assert client.exists("mine:stream:q:dead")


def test_two_prefixes_share_a_database(server: Server, one: Peer) -> None:
    with peer(server.url, global_keyprefix="mine:") as mine:
        mine.send("mine")
        assert one.queue.get() is None
        assert mine.queue.get().payload == "mine"


def test_lists_of_the_same_queues_are_left_alone(server: Server, one: Peer) -> None:
    with peer(server.url.replace("redisstream", "redis")) as lists:
        lists.send("old")
        one.send("new")
        assert one.queue.get().payload == "new"
        assert lists.queue.get().payload == "old"
