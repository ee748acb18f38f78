"""The batching writer: a worker's claims, output and ends, in shared statements."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from tasks_app import ledger
from tasks_app.ledger import ClaimedRun, Finish, Lease, LogChunk

log = structlog.get_logger()

LINGER_SECONDS = 0.004
"""While work comes in crowds, how long a batch waits for company."""
MAX_ITEMS = 500
MAX_TEXT = 4 * 1024 * 1024
"""Items, and characters of output, in one transaction."""
MAX_HELD_CHUNKS = 5_000
"""Output held in memory while the database is away; beyond, it is dropped."""
RECONNECT_SECONDS = 1.0

_REFUSED = False
DATABASE_AWAY = (OperationalError, InterfaceError)


@dataclass(frozen=True, slots=True)
class _Claim:
    run_ids: Sequence[int]
    answer: asyncio.Future[list[ClaimedRun]]


@dataclass(frozen=True, slots=True)
class _End:
    finish: Finish
    answer: asyncio.Future[bool]


_Item = _Claim | _End | LogChunk


class Writer:
    """One thread, one database connection, one transaction a batch, first in first out.

    Claims fail while the database is away; ends and output are kept and written when
    it is back (C14). `turn` is held during each transaction: the worker's heartbeat,
    which locks the same rows on a connection of its own, takes it too, so that the
    two cannot deadlock.
    """

    def __init__(self, worker_id: int, loop: asyncio.AbstractEventLoop) -> None:
        self.turn = threading.Lock()
        self._worker_id = worker_id
        self._loop = loop
        self._items: deque[_Item] = deque()
        self._wake = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end the thread."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        self._thread.join()

    async def claim(self, run_ids: Sequence[int]) -> list[ClaimedRun]:
        """Claim runs; the answer comes when the claim has committed.

        Raises:
            OperationalError: the database is away.
        """
        answer: asyncio.Future[list[ClaimedRun]] = self._loop.create_future()
        self._put(_Claim(run_ids, answer))
        return await answer

    async def finish(self, finish: Finish) -> bool:
        """Commit an attempt's end; False if it came too late and was refused."""
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._put(_End(finish, answer))
        return await answer

    def append(self, chunk: LogChunk) -> bool:
        """Store a piece of output, before any end that is given later.

        Returns:
            False if too much is held already, and the piece was dropped.
        """
        if len(self._items) >= MAX_HELD_CHUNKS:
            return False
        self._put(chunk)
        return True

    def _put(self, item: _Item) -> None:
        with self._wake:
            self._items.append(item)
            self._wake.notify()

    def _run(self) -> None:
        linger_seconds = 0.0
        while batch := self._take(linger_seconds):
            linger_seconds = LINGER_SECONDS if len(batch) > 1 else 0.0
            try:
                self._answer(self._write(batch))
            except DATABASE_AWAY as error:
                self._keep(batch, error)
            except Exception:  # whatever it was, it must not cost the others their end
                log.exception("writer.batch_failed", items=len(batch))
                self._write_apart(batch)
        connection.close()

    def _take(self, linger_seconds: float) -> list[_Item]:
        """The next batch; empty only when stopped and nothing is left."""
        with self._wake:
            while not self._items and not self._is_stopping:
                self._wake.wait()
        if linger_seconds and not self._is_stopping:
            time.sleep(linger_seconds)
        batch: list[_Item] = []
        text = 0
        with self._wake:
            while self._items and len(batch) < MAX_ITEMS and text < MAX_TEXT:
                item = self._items.popleft()
                batch.append(item)
                text += len(item.text) if isinstance(item, LogChunk) else 0
        return batch

    def _write(self, batch: Sequence[_Item]) -> list[Callable[[], None]]:
        """Write a batch; returns the answers to give."""
        claims = [item for item in batch if isinstance(item, _Claim)]
        ends = [item for item in batch if isinstance(item, _End)]
        with self.turn, transaction.atomic():
            ledger.append_logs([item for item in batch if isinstance(item, LogChunk)])
            accepted = ledger.finish([end.finish for end in ends])
            ids = sorted({run_id for claim in claims for run_id in claim.run_ids})
            claimed = ledger.claim(ids, self._worker_id) if ids else []
        answers = [_answer_end(end, accepted) for end in ends]
        left = {run.run_id: run for run in claimed}
        for claim in claims:  # two doorbells may name the same run
            won = [left.pop(run_id) for run_id in claim.run_ids if run_id in left]
            answers.append(partial(_set, claim.answer, won))
        return answers

    def _answer(self, answers: Sequence[Callable[[], None]]) -> None:
        """Give the answers on the event loop, all in one turn of it."""
        if answers:
            self._loop.call_soon_threadsafe(_call_all, answers)

    def _keep(self, batch: Sequence[_Item], error: Exception) -> None:
        """The database is away: fail the claims, keep the rest, try again later."""
        log.warning("writer.database_away", error=str(error).strip())
        connection.close()
        self._refuse(batch, error)
        with self._wake:
            kept = [item for item in batch if not isinstance(item, _Claim)]
            self._items.extendleft(reversed(kept))
        time.sleep(RECONNECT_SECONDS)

    def _refuse(self, batch: Sequence[_Item], error: Exception) -> None:
        self._answer(
            [
                partial(_fail, item.answer, error)
                for item in batch
                if isinstance(item, _Claim)
            ]
        )

    def _write_apart(self, batch: Sequence[_Item]) -> None:
        """After a batch that the database refuses: each item for itself.

        An end that is refused even so is written without its result and its error
        text, which are all that can be at fault; refused output is dropped.
        """
        for item in batch:
            try:
                self._answer(self._write([item]))
            except DATABASE_AWAY as error:
                self._keep([item], error)
            except Exception as error:
                log.exception("writer.item_refused", item=type(item).__name__)
                if isinstance(item, _End) and item.finish.result is not None:
                    self._put(_End(_without_result(item.finish, error), item.answer))
                elif isinstance(item, _End):
                    self._answer([partial(_set, item.answer, _REFUSED)])
                self._refuse([item], error)


def _without_result(finish: Finish, error: Exception) -> Finish:
    return replace(
        finish,
        result=None,
        error=f"the result could not be stored: {type(error).__name__}",
        log_truncated=True,
    )


def _answer_end(end: _End, accepted: frozenset[Lease]) -> Callable[[], None]:
    return partial(_set, end.answer, end.finish.lease in accepted)


def _set(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
