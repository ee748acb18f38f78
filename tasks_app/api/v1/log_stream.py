"""A run's output as server-sent events, for one follower.

Each step reads the database once and gives the events to send; what drives the steps
is an event loop under ASGI, and the request's own thread otherwise.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, InterfaceError

from tasks_app.api.v1.logs import chunks_after, has_ended, run_state
from tasks_app.api.waiting import release_connection
from tasks_app.policy import may

POLL_SECONDS = 0.4
PING_SECONDS = 15.0
MAX_SECONDS = 30 * 60.0
RECHECK_SECONDS = 5.0
"""How soon a stream ends whose follower may not read it any more."""
CHUNKS_PER_EVENT = 200
MAX_STREAMS = 200

_open_streams: set[LogStream] = set()
"""Those of this process that have begun and not ended."""


def has_room() -> bool:
    """Whether this process takes one more stream."""
    return len(_open_streams) < MAX_STREAMS


def event(name: str, data: Any, id_: int | None = None) -> str:
    head = "" if id_ is None else f"id: {id_}\n"
    text = json.dumps(data, cls=DjangoJSONEncoder, ensure_ascii=False)
    return f"{head}event: {name}\ndata: {text}\n\n"


class LogStream:
    """Follows one run from a place in its output, for one user."""

    def __init__(self, run_id: int, after: int, user_id: int) -> None:
        self._run_id = run_id
        self._after = after
        self._user_id = user_id
        self._shown: tuple[Any, ...] | None = None
        self._started = self._checked = self._sent = time.monotonic()
        self.is_over = False

    def events(self) -> Iterator[str]:
        """For a thread. Under WSGI it is occupied for as long as the stream lives."""
        _open_streams.add(self)
        try:
            yield "retry: 1000\n\n"
            while not self.is_over:
                yield from self._step()
                if not self.is_over:
                    time.sleep(POLL_SECONDS)
        finally:
            _open_streams.discard(self)

    async def async_events(self) -> AsyncIterator[str]:
        """For an event loop, which sleeps between the steps and holds no thread."""
        _open_streams.add(self)
        try:
            yield "retry: 1000\n\n"
            while not self.is_over:
                for text in await sync_to_async(self._step)():
                    yield text
                if not self.is_over:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            _open_streams.discard(self)

    def _step(self) -> list[str]:
        try:
            found = list(self._news())
        except (DatabaseError, InterfaceError):
            self.is_over = True  # the follower comes back, after `retry`
            return []
        finally:
            release_connection()
        now = time.monotonic()
        if not found and now - self._sent >= PING_SECONDS:
            found.append(": ping\n\n")
        if found:
            self._sent = now
        self.is_over = self.is_over or now - self._started >= MAX_SECONDS
        return found

    def _news(self) -> Iterator[str]:
        if not self._is_still_allowed():
            self.is_over = True
            return
        # The state first: output that comes with the end is then not missed.
        state = run_state(self._run_id)
        chunks = chunks_after(self._run_id, self._after, CHUNKS_PER_EVENT)
        if chunks:
            self._after = chunks[-1].seq
            yield event("log", [asdict(chunk) for chunk in chunks], self._after)
        if state is None:
            self.is_over = True
            return
        shown = (state["status"], state["attempt"])
        if shown != self._shown:
            self._shown = shown
            yield event("state", _state(state))
        if has_ended(state) and len(chunks) < CHUNKS_PER_EVENT:
            self.is_over = True
            yield event("end", _end(state))

    def _is_still_allowed(self) -> bool:
        now = time.monotonic()
        if now - self._checked < RECHECK_SECONDS:
            return True
        self._checked = now
        user = get_user_model().objects.filter(pk=self._user_id).first()
        return user is not None and may(user, "run.read")


def _state(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: state[name] for name in ("status", "attempt", "due_at", "started_at")}


def _end(state: Mapping[str, Any]) -> dict[str, Any]:
    start, end = state["started_at"], state["completed_at"]
    return {
        "status": state["status"],
        "exit_code": state["exit_code"],
        "duration_seconds": (end - start).total_seconds() if start and end else None,
    }
