"""Dispatch: ring the doorbells of runs that are ready.

The rows are the queue. A doorbell is a Celery message that names some of them; losing
it delays its runs until the next one.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import structlog
from celery import current_app
from django.db import DatabaseError, InterfaceError, connection
from kombu.exceptions import OperationalError as BrokerError

from tasks_app import ledger
from tasks_app.ledger import Doorbell
from workers_app.tasks import doorbell

log = structlog.get_logger()

MAX_RUNS_A_DOORBELL = 20
MESSAGES_A_QUEUE = 8
"""Up to so many runs get a message each, which spreads them best; beyond, a message
names several, which is what lifts throughput when there is a backlog."""
MAX_RUNS_A_ROUND = 1000


def ring(run_ids: Sequence[int] | None = None) -> int:
    """Ring for the runs whose doorbell is due: all, or those of `run_ids`.

    Returns:
        How many runs were rung for. Where the broker does not answer: none, and
        they are due again in a second.
    """
    doorbells = ledger.publish(MAX_RUNS_A_ROUND, run_ids)
    if not doorbells:
        return 0
    try:
        _send(doorbells)
    except BrokerError as error:
        ledger.unpublish([bell.run_id for bell in doorbells])
        log.warning("dispatch.broker_away", runs=len(doorbells), error=str(error))
        return 0
    return len(doorbells)


def _send(doorbells: Iterable[Doorbell]) -> None:
    with current_app.producer_or_acquire() as producer, producer.batch():
        for queue, run_ids in messages(doorbells):
            doorbell.apply_async(
                kwargs={"run_ids": run_ids}, queue=queue, producer=producer, retry=False
            )


def messages(doorbells: Iterable[Doorbell]) -> Iterator[tuple[str, list[int]]]:
    """The messages for some doorbells: a queue and the run ids for each, in order."""
    by_queue: dict[str, list[int]] = defaultdict(list)
    for bell in doorbells:
        by_queue[bell.queue].append(bell.run_id)
    for queue, run_ids in by_queue.items():
        size = max(1, min(len(run_ids) // MESSAGES_A_QUEUE, MAX_RUNS_A_DOORBELL))
        for start in range(0, len(run_ids), size):
            yield queue, run_ids[start : start + size]


class Ringer:
    """Rings in the background for the runs that `runs_ready` tells of.

    So neither a request nor the writer waits for the broker, and runs that become
    ready together share a statement and a round trip.
    """

    def __init__(self) -> None:
        self._run_ids: list[int] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, run_ids: Iterable[int]) -> None:
        """Ring for these runs soon. The thread starts with the first, so that a
        process that forks after import (gunicorn) has its own."""
        with self._wake:
            self._run_ids.extend(run_ids)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="ringer", daemon=True
                )
                self._thread.start()
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._run_ids:
                    self._wake.wait()
                run_ids, self._run_ids = self._run_ids, []
            try:
                while run_ids and ring(run_ids) == MAX_RUNS_A_ROUND:
                    pass
            except (DatabaseError, InterfaceError) as error:
                # Nothing is lost: beat rings for every row that nobody rang for.
                log.warning("dispatch.database_away", error=str(error).strip())
                connection.close()
            except Exception:  # a thread that ends would silence every doorbell
                log.exception("dispatch.failed", runs=len(run_ids))


ringer = Ringer()
