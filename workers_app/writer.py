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
from django.conf import settings
from django.db import connection, transaction

from tasks_app import ledger
from tasks_app.ledger import (
    Claimant,
    ClaimedRun,
    Definitions,
    Finish,
    Lease,
    LogChunk,
    LogCut,
    Outlook,
)
from workers_app.database import AWAY

log = structlog.get_logger()

LINGER_SECONDS = 0.004
"""While work comes in crowds, how long a batch waits for company, if nothing in it is
urgent."""
MAX_ITEMS = 500
MAX_TEXT = 4 * 1024 * 1024
"""Items, and characters of output, in one transaction."""
MAX_HELD_CHUNKS = 5_000
"""Output held in memory while the database is away; beyond, it is dropped."""
RECONNECT_SECONDS = 1.0

_REFUSED = False


@dataclass(slots=True)
class _Claim:
    """`limit` grows until the claim is taken."""

    limit: int
    answer: asyncio.Future[list[ClaimedRun]]
    is_called: bool = False
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    answer: asyncio.Future[bool]


@dataclass(frozen=True, slots=True)
class _End:
    finish: Finish
    answer: asyncio.Future[bool]


_Item = _Claim | _Look | _End | LogChunk | LogCut


class Writer:
    """One thread, one database connection; of a batch the claims, then all the rest in
    one transaction, first in first out.

    Claims fail while the database is away; ends and output are kept and written when
    it is back (C14). `turn` is held during each transaction: the worker's heartbeat,
    which locks the same rows on a connection of its own, takes it too, so that the
    two cannot deadlock.
    """

    def __init__(self, claimant: Claimant, loop: asyncio.AbstractEventLoop) -> None:
        self.turn = threading.Lock()
        self.claimant = claimant
        self._loop = loop
        self._items: deque[_Item] = deque()
        self._wake = threading.Condition()
        self._urgent = threading.Event()
        self._open_claim: _Claim | None = None
        self._is_stopping = False
        self._lost_output: set[Lease] = set()
        self._outlook: Outlook | None = None
        self._outlook_until = 0.0
        self._definitions = Definitions()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, and end the thread."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        self._urgent.set()
        self._thread.join()

    def claim(
        self, limit: int, *, is_called: bool = False, is_urgent: bool = False
    ) -> asyncio.Future[list[ClaimedRun]]:
        """Claim up to `limit` runs; the answer comes when the claim has committed, and
        is an OperationalError if the database is away.
        `is_called`: runs wait in a lane for this worker, perhaps a new one.
        `is_urgent`: the claim waits for no company.
        """
        answer: asyncio.Future[list[ClaimedRun]] = self._loop.create_future()
        claim = _Claim(limit, answer, is_called, is_urgent)
        with self._wake:
            self._open_claim = claim
        self._put(claim)
        return answer

    def claim_more(self, limit: int, *, is_called: bool, is_urgent: bool) -> bool:
        """Have the last claim take so many more runs, and be as urgent.

        Returns:
            False if that claim is under way already, or there is none.
        """
        with self._wake:
            claim = self._open_claim
            if claim is None:
                return False
            claim.limit += limit
            claim.is_called = claim.is_called or is_called
        if is_urgent:
            self._urgent.set()
        return True

    def look(self) -> asyncio.Future[bool]:
        """Ask whether a claim may find anything, which costs an idle worker one
        statement where a claim costs several. Fails as a claim does."""
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._put(_Look(answer))
        return answer

    def finish(self, finish: Finish) -> asyncio.Future[bool]:
        """Have an attempt's end committed; the answer comes when it is, and is False
        if the end came too late and was refused."""
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._put(_End(finish, answer))
        return answer

    def append(self, chunk: LogChunk) -> bool:
        """Store a piece of output, before any end that is given later.

        Returns:
            False if too much is held already, and the piece was dropped.
        """
        if len(self._items) >= MAX_HELD_CHUNKS:
            return False
        self._put(chunk)
        return True

    def cut(self, cut: LogCut) -> None:
        """Cut out the middle of what has been given before."""
        self._put(cut)

    def _put(self, item: _Item) -> None:
        with self._wake:
            self._items.append(item)
            if len(self._items) == 1:  # else the thread has been told before
                self._wake.notify()
        if isinstance(item, _Claim) and item.is_urgent:
            self._urgent.set()

    def _run(self) -> None:
        linger_seconds = 0.0
        while batch := self._take(linger_seconds):
            linger_seconds = LINGER_SECONDS if len(batch) > 1 else 0.0
            looks = [item for item in batch if isinstance(item, _Look)]
            claims = [item for item in batch if isinstance(item, _Claim)]
            others = [item for item in batch if not isinstance(item, _Look | _Claim)]
            # The runs that are claimed go on while the ends are written: one core
            # would idle if they waited for these too.
            for part in (looks, claims, others):
                if part:
                    self._write_part(part)
        connection.close()

    def _write_part(self, part: Sequence[_Item]) -> None:
        try:
            self._answer(self._write(part))
        except AWAY as error:
            self._keep(part, error)
        except Exception:  # whatever it was, it must not cost the others their end
            log.exception("writer.batch_failed", items=len(part))
            self._write_apart(part)

    def _take(self, linger_seconds: float) -> list[_Item]:
        """The next batch; empty only when stopped and nothing is left."""
        with self._wake:
            while not self._items and not self._is_stopping:
                self._wake.wait()
        if linger_seconds and not self._is_stopping:
            self._urgent.wait(linger_seconds)
        self._urgent.clear()  # before the items are taken: none comes unseen
        batch: list[_Item] = []
        text = 0
        with self._wake:
            while self._items and len(batch) < MAX_ITEMS and text < MAX_TEXT:
                item = self._items.popleft()
                batch.append(item)
                if item is self._open_claim:
                    self._open_claim = None
                text += len(item.text) if isinstance(item, LogChunk) else 0
        return batch

    def _write(self, items: Sequence[_Item]) -> list[Callable[[], None]]:
        """Write claims, or looks, or whatever else; returns the answers to give."""
        looks = [item for item in items if isinstance(item, _Look)]
        if looks:
            return self._look(looks)
        claims = [item for item in items if isinstance(item, _Claim)]
        with self.turn:
            return self._write_claims(claims) if claims else self._write_others(items)

    def _look(self, looks: Sequence[_Look]) -> list[Callable[[], None]]:
        found = ledger.waits(self.claimant.queues, self.claimant.worker_id)
        return [partial(_set, look.answer, found) for look in looks]

    def _write_claims(self, claims: Sequence[_Claim]) -> list[Callable[[], None]]:
        claimed = self._claim(sum(claim.limit for claim in claims), claims)
        answers: list[Callable[[], None]] = []
        for claim in claims:
            won, claimed = claimed[: claim.limit], claimed[claim.limit :]
            answers.append(partial(_set, claim.answer, won))
        return answers

    def _write_others(self, items: Sequence[_Item]) -> list[Callable[[], None]]:
        ends = [item for item in items if isinstance(item, _End)]
        cuts = [item for item in items if isinstance(item, LogCut)]
        with transaction.atomic():
            ledger.append_logs([item for item in items if isinstance(item, LogChunk)])
            # Of an attempt the last counts: it tells all that was cut.
            ledger.cut_logs(list({(c.run_id, c.attempt): c for c in cuts}.values()))
            accepted = ledger.finish([self._told(end.finish) for end in ends])
        return [_answer_end(end, accepted) for end in ends]

    def _told(self, finish: Finish) -> Finish:
        """The end, with a mark if output of it was refused."""
        if finish.lease not in self._lost_output:
            return finish
        self._lost_output.discard(finish.lease)
        return replace(finish, log_truncated=True)

    def _claim(self, wanted: int, claims: Sequence[_Claim]) -> list[ClaimedRun]:
        """The outlook is taken at each poll, and when a doorbell says so: to do it for
        each claim would cost a busy worker a third more."""
        now = time.monotonic()
        if now >= self._outlook_until or any(claim.is_called for claim in claims):
            self._outlook = ledger.outlook(self.claimant)
            self._outlook_until = now + settings.POLL_SECONDS / 2
        return ledger.claim(self.claimant, wanted, self._outlook, self._definitions)

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
            kept = [item for item in batch if not isinstance(item, _Claim | _Look)]
            self._items.extendleft(reversed(kept))
        time.sleep(RECONNECT_SECONDS)

    def _refuse(self, batch: Sequence[_Item], error: Exception) -> None:
        self._answer(
            [
                partial(_fail, item.answer, error)
                for item in batch
                if isinstance(item, _Claim | _Look)
            ]
        )

    def _write_apart(self, batch: Sequence[_Item]) -> None:
        """After a batch that the database refuses: each item for itself.

        An end that is refused even so is written without its result and its error
        text, which are all that can be at fault; refused output is dropped, and the
        run says so.
        """
        for item in batch:
            try:
                self._answer(self._write([item]))
            except AWAY as error:
                self._keep([item], error)
            except Exception as error:
                log.exception("writer.item_refused", item=type(item).__name__)
                if isinstance(item, _End) and item.finish.result is not None:
                    self._put(_End(_without_result(item.finish, error), item.answer))
                elif isinstance(item, _End):
                    self._answer([partial(_set, item.answer, _REFUSED)])
                elif isinstance(item, LogChunk | LogCut):
                    self._lost_output.add(Lease(item.run_id, item.attempt))
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
