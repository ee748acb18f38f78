"""Brokers by configuration alone."""

from __future__ import annotations

import pytest

from workers_app.transports import UnknownTransport, profile


@pytest.mark.parametrize(
    "scheme",
    [
        *("redis", "rediss", "redisstream", "redisstream-tls"),
        *("redisstream-sentinel", "redisstream+socket"),
    ],
)
def test_redis_connections_notice_a_dead_peer(scheme: str) -> None:
    options = profile(f"{scheme}://host/0")["broker_transport_options"]
    assert options["socket_timeout"]
    assert options["socket_keepalive"]
    assert options["health_check_interval"]


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_rabbitmq_confirms_what_it_took(scheme: str) -> None:
    values = profile(f"{scheme}://host//")
    assert values["broker_transport_options"] == {"confirm_publish": True}


def test_another_broker_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(UnknownTransport, match=r"'sqs': use one of amqp"):
        profile("sqs://")
