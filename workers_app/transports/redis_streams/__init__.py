"""A kombu transport on Redis Streams and their consumer groups.

It knows kombu and redis-py, and nothing of Gnomon. `register` makes its URLs known to
kombu: `redisstream://`, `redisstream-tls://` and `redisstream-sentinel://`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kombu.transport import TRANSPORT_ALIASES

if TYPE_CHECKING:
    from workers_app.transports.redis_streams.stats import QueueStats, queue_stats
    from workers_app.transports.redis_streams.streams import OldServer, QueueFull

__all__ = ["SCHEMES", "OldServer", "QueueFull", "QueueStats", "queue_stats", "register"]

SCHEMES = {
    "redisstream": f"{__name__}.transport:Transport",
    "redisstream-tls": f"{__name__}.transport:TlsTransport",
    "redisstream-sentinel": f"{__name__}.transport:SentinelTransport",
}

_PLACES = {
    "OldServer": "streams",
    "QueueFull": "streams",
    "QueueStats": "stats",
    "queue_stats": "stats",
}


def register() -> None:
    """Have kombu know the schemes, before any connection is made."""
    TRANSPORT_ALIASES.update(SCHEMES)


def __getattr__(name: str) -> Any:
    """Load redis-py with the first name that needs it: a process on another broker is
    8 MB smaller without."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
