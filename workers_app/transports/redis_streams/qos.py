"""Acknowledgements."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Its published types know little of what it is made of.
virtual: Any = import_module("kombu.transport.virtual")


class QoS(virtual.QoS):  # type: ignore[misc]  # of no type
    """Deliveries that are not done: the server knows them, the channel only counts."""

    def ack(self, delivery_tag: str) -> None:
        self.channel.streams.ack(delivery_tag)
        self._done(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        if requeue:
            self.channel.streams.requeue(delivery_tag)
        else:
            self.channel.put_aside(delivery_tag, "rejected")
        self._done(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        """Give back what is not done. Without a server that happens by itself, when the
        leases run out."""
        self._flush()
        self._delivered.clear()
        self.channel.release()
        return []

    def _done(self, delivery_tag: str) -> None:
        self.channel.leases.discard(delivery_tag)
        super().ack(delivery_tag)
