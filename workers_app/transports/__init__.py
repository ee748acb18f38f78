"""Brokers by configuration alone: one profile of Celery settings a transport."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from workers_app.transports import redis_streams

redis_streams.register()

_REDIS: dict[str, Any] = {
    # Without these a worker waits for ever on a half-open connection.
    "broker_transport_options": {
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "retry_on_timeout": True,
    },
}
_AMQP: dict[str, Any] = {
    "broker_transport_options": {"confirm_publish": True},
    "broker_heartbeat": 30,
    "broker_connection_timeout": 5,
}
_PROFILES = {
    **dict.fromkeys(("redis", "rediss"), _REDIS),
    **dict.fromkeys(("amqp", "amqps"), _AMQP),
    **dict.fromkeys((*redis_streams.SCHEMES, "redisstream+socket"), _REDIS),
}


class UnknownTransport(ValueError):
    """BROKER_URL names no transport that Gnomon has a profile for."""


def profile(broker_url: str) -> dict[str, Any]:
    """The Celery settings that fit the transport of `broker_url`.

    Raises:
        UnknownTransport: its scheme is not among the profiles.
    """
    scheme = urlsplit(broker_url).scheme
    if scheme in {"redis", "rediss"}:
        from kombu.transport import redis  # noqa: PLC0415 - 8 MB, which RabbitMQ spares

        # kombu 5.7 dies in giving unread messages back to a broker that has gone. Ours
        # are doorbells, and need not be given back.
        redis.Channel.do_restore = False
    try:
        return _PROFILES[scheme]
    except KeyError:
        raise UnknownTransport(
            f"BROKER_URL begins with {scheme!r}: use one of"
            f" {', '.join(sorted(_PROFILES))}, as in redis://localhost:6379/0"
        ) from None
