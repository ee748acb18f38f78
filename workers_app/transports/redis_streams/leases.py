"""A thread that keeps what a consumer holds, also while a callback blocks."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence

import redis
from kombu.log import get_logger

from workers_app.transports.redis_streams.streams import Streams, place

RENEWALS_A_LEASE = 4
logger = get_logger("kombu.transport.redis_streams")


class Leases:
    """The deliveries of one consumer that are not done. The thread starts with the
    first, and ends at `stop`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._tags: set[str] = set()
        self._lock = threading.Lock()
        self._is_stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __contains__(self, tag: str) -> bool:
        return tag in self._tags

    def add(self, tags: Sequence[str]) -> None:
        with self._lock:
            self._tags.update(tags)
            if self._thread is None and not self._is_stopped.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="stream-leases", daemon=True
                )
                self._thread.start()

    def discard(self, tag: str) -> None:
        with self._lock:
            self._tags.discard(tag)

    def stop(self) -> None:
        self._is_stopped.set()
        with self._lock:
            self._tags.clear()

    def _run(self) -> None:
        pause = self._streams.limits.lease_seconds / RENEWALS_A_LEASE
        while not self._is_stopped.wait(pause):
            try:
                self._renew()
            except (redis.RedisError, OSError) as error:
                logger.warning("Leases were not renewed: %s", error)

    def _renew(self) -> None:
        by_stream: dict[str, list[str]] = defaultdict(list)
        with self._lock:
            for stream, entry_id in map(place, self._tags):
                by_stream[stream].append(entry_id)
        for stream, ids in by_stream.items():
            self._streams.renew(stream, ids)
