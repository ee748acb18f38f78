"""A worker's runs: claimed when there is room, executed, and finished.

Lives on one event loop in a thread of its own, and knows no Celery.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC

import structlog
from django.conf import settings

from executors import registry
from executors.base import Outcome, OutcomeStatus, RunContext
from executors.execution import execute
from tasks_app.choices import Delivery, RunStatus
from tasks_app.ledger import ClaimedRun, Finish, Lease
from tasks_app.models.task import executor_payload
from tasks_app.rules.params import param_environment
from tasks_app.rules.retry import retry_decision
from workers_app.output import Output
from workers_app.writer import DATABASE_AWAY, Writer

log = structlog.get_logger()


@dataclass(slots=True)
class _Active:
    run: ClaimedRun
    task: asyncio.Task[None] | None = None
    work: asyncio.Task[Outcome] | None = field(default=None)
    stop_reason: str = ""


@dataclass(slots=True)
class _Bell:
    """A doorbell that is being answered: how many of its runs are still open."""

    left: int
    answer: asyncio.Future[list[asyncio.Task[None]]]
    runs: list[asyncio.Task[None]] = field(default_factory=list)


class Runner:
    """Holds up to `slots` runs at a time."""

    def __init__(self, worker_id: int, slots: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.writer = Writer(worker_id, self.loop)
        self._free_slots = slots
        self._waiting: deque[tuple[int, _Bell]] = deque()
        self._is_claiming = False
        self._claims: set[asyncio.Task[None]] = set()
        self._active: dict[int, _Active] = {}
        self._is_draining = False
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run_loop, name="runs", daemon=True)

    def start(self) -> None:
        self.writer.start()
        self._thread.start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def leases(self) -> list[Lease]:
        """The attempts that this worker holds. Safe to call from any thread."""
        held = list(self._active.values())
        return [Lease(active.run.run_id, active.run.attempt) for active in held]

    def stop_runs(self, run_ids: Iterable[int], reason: str) -> None:
        """Stop the jobs of these runs, from any thread; they end as cancelled."""
        ids = list(run_ids)
        if ids:
            self.loop.call_soon_threadsafe(self._stop_runs, ids, reason)

    def stop_repeatable(self, reason: str) -> None:
        """Stop the jobs that another worker may start again (C6)."""
        self.stop_runs(
            [
                active.run.run_id
                for active in list(self._active.values())
                if active.run.definition["delivery"] == Delivery.AT_LEAST_ONCE
            ],
            reason,
        )

    def drain(self, timeout_seconds: float | None) -> bool:
        """Claim nothing more and wait for the runs that are held.

        Returns:
            Whether all of them have ended within `timeout_seconds`.
        """
        begun = threading.Event()

        def begin() -> None:  # on the loop, so that no claim is just being decided
            self._is_draining = True
            begun.set()

        self.loop.call_soon_threadsafe(begin)
        begun.wait()
        return self._idle.wait(timeout_seconds)

    def stop(self) -> None:
        """Stop what still runs, write all ends, and end the threads."""
        self.stop_runs([lease.run_id for lease in self.leases()], "worker_shutdown")
        self.drain(settings.CANCEL_GRACE_SECONDS + 5)
        self.writer.stop()
        asyncio.run_coroutine_threadsafe(registry.aclose(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def answer(self, run_ids: Sequence[int]) -> list[asyncio.Task[None]]:
        """Answer a doorbell: claim the runs it names as room allows, and start them.

        Returns:
            A task for each run that was claimed; it is done when the run has ended.
        """
        if not run_ids:
            return []
        bell = _Bell(len(run_ids), self.loop.create_future())
        self._waiting.extend((run_id, bell) for run_id in run_ids)
        self._claim_soon()
        return await bell.answer

    def _claim_soon(self) -> None:
        """Claim once in this turn of the loop, however much has changed in it."""
        if not self._is_claiming:
            self._is_claiming = True
            self.loop.call_soon(self._claim_waiting)

    def _claim_waiting(self) -> None:
        self._is_claiming = False
        room = min(self._free_slots, len(self._waiting))
        if room and not self._is_draining:
            self._free_slots -= room
            batch = [self._waiting.popleft() for _ in range(room)]
            claim = self.loop.create_task(self._claim(batch))
            self._claims.add(claim)
            claim.add_done_callback(self._claim_done)
            self._idle.clear()

    def _claim_done(self, claim: asyncio.Task[None]) -> None:
        self._claims.discard(claim)
        self._note_idle()
        self._claim_soon()

    def _note_idle(self) -> None:
        if not self._active and not self._claims:
            self._idle.set()

    async def _claim(self, batch: Sequence[tuple[int, _Bell]]) -> None:
        try:
            claimed = await self.writer.claim([run_id for run_id, _bell in batch])
        except DATABASE_AWAY:
            claimed = []  # the rows stay queued: their doorbell will be rung again
        except Exception:  # whatever it was, slots and doorbell must not be lost
            log.exception("claim.failed", runs=len(batch))
            claimed = []
        won = {run.run_id: run for run in claimed}
        for run_id, bell in batch:
            run = won.pop(run_id, None)
            if run is None:
                self._free_slots += 1
            else:
                bell.runs.append(self._start(run))
            bell.left -= 1
            if not bell.left:
                bell.answer.set_result(bell.runs)

    def _start(self, run: ClaimedRun) -> asyncio.Task[None]:
        active = _Active(run)
        self._active[run.run_id] = active
        active.task = self.loop.create_task(self._run(active))
        return active.task

    async def _run(self, active: _Active) -> None:
        run = active.run
        output = Output(
            run.run_id, run.attempt, self.writer.append, settings.MAX_LOG_BYTES
        )
        try:
            outcome = await self._execute(active, output)
            finish = _finish(run, outcome, active.stop_reason, output)
            if not await self.writer.finish(finish):
                log.warning("run.stale_result", **_names(run), status=finish.status)
        except Exception:  # its lease will expire; the others must not suffer
            log.exception("run.not_reported", **_names(run))
        finally:
            del self._active[run.run_id]
            self._free_slots += 1
            self._claim_soon()
            self._note_idle()

    async def _execute(self, active: _Active, output: Output) -> Outcome:
        run = active.run
        rules = run.definition
        try:
            executor = registry.get(rules["executor"])
        except registry.UnknownExecutor as error:
            return Outcome(
                OutcomeStatus.FAILED, error=str(error), reason="unknown_executor"
            )
        context = RunContext(
            payload=executor_payload(rules["command"], rules["payload"]),
            environment=_environment(run),
            write=output.write,
            grace_seconds=settings.CANCEL_GRACE_SECONDS,
        )
        active.work = self.loop.create_task(
            execute(executor, context, rules["timeout_seconds"])
        )
        return await active.work

    def _stop_runs(self, run_ids: Iterable[int], reason: str) -> None:
        for run_id in run_ids:
            active = self._active.get(run_id)
            if active and active.work and not active.stop_reason:
                active.stop_reason = reason
                active.work.cancel()


def _names(run: ClaimedRun) -> dict[str, object]:
    return {"run_id": run.run_id, "attempt": run.attempt, "task": run.task_name}


def _environment(run: ClaimedRun) -> dict[str, str]:
    return {
        "GNOMON_RUN_ID": str(run.run_id),
        "GNOMON_ATTEMPT": str(run.attempt),
        "GNOMON_SCHEDULED_FOR": run.scheduled_for.astimezone(UTC).isoformat(),
        "GNOMON_TASK": run.task_name,
        **param_environment(run.params),
    }


def _finish(
    run: ClaimedRun, outcome: Outcome, stop_reason: str, output: Output
) -> Finish:
    status = outcome.status.value
    reason = outcome.reason
    if outcome.status is OutcomeStatus.CANCELLED:
        # Only a person cancels; a job that the worker had to give up has failed.
        reason = stop_reason or outcome.reason
        status = RunStatus.CANCELLED if reason == "cancelled" else RunStatus.FAILED
    rules = run.definition
    retry = retry_decision(
        status=status,
        attempt=run.attempt,
        max_attempts=rules["max_attempts"],
        initial_seconds=rules["retry_initial_seconds"],
        max_seconds=rules["retry_max_seconds"],
        backoff=rules["retry_backoff"],
        random=random.random,
    )
    return Finish(
        run_id=run.run_id,
        attempt=run.attempt,
        status=status,
        exit_code=outcome.exit_code,
        result=outcome.result,
        error=outcome.error,
        reason=reason,
        log_truncated=output.close(),
        retry_seconds=retry.delay_seconds if retry else None,
    )
