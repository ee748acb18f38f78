"""A worker's runs: claimed when there is room, executed, and finished.

Lives on one event loop in a thread of its own, and knows no Celery.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from typing import Any

import structlog
from django.conf import settings

from executors import registry
from executors.base import Outcome, OutcomeStatus, RunContext
from executors.containment import host_containment
from executors.execution import Execution
from executors.supervisor import JobLease, Supervisor, clock
from tasks_app.choices import Delivery, RunStatus
from tasks_app.ledger import Claimant, ClaimedRun, Finish, Lease
from tasks_app.models.task import executor_payload
from tasks_app.rules.params import param_environment
from tasks_app.rules.retry import retry_decision
from workers_app.database import AWAY
from workers_app.models import WorkerInfo
from workers_app.output import Output
from workers_app.writer import Writer

log = structlog.get_logger()

GIVE_UP_LEASE_PART = 0.7
"""The part of a lease without a renewal after which repeatable jobs are stopped, so
that they have ended at 0.8: looked at every quarter of a heartbeat, which is at most
a sixteenth of a lease."""


@dataclass(slots=True)
class _Active:
    run: ClaimedRun
    renewed_at: float
    output: Output
    work: Execution | None = None
    stop_reason: str = ""

    @property
    def is_repeatable(self) -> bool:
        return bool(self.run.definition["delivery"] == Delivery.AT_LEAST_ONCE)


@dataclass(slots=True)
class _Asked:
    """A claim that is under way, as large as it has grown."""

    limit: int
    at: float


class Runner:
    """Works on up to `slots` runs at a time, and claims the best that wait.

    It claims when a doorbell wakes it, when a look every POLL_SECONDS finds that some
    wait, and, for as long as claims come back full, whenever a run's end makes room.
    """

    def __init__(self, worker: WorkerInfo, slots: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.writer = Writer(
            Claimant(
                worker.pk, tuple(worker.queues), worker.name, frozenset(worker.tags)
            ),
            self.loop,
        )
        self._free_slots = slots
        self._wanted = 0
        self._is_called = False
        self._is_rung = False
        self._is_backlog = False
        self._is_claiming = False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._asked: _Asked | None = None
        self._claims = 0
        self._active: dict[int, _Active] = {}
        self._is_draining = False
        self._is_told_to_drain = False
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run_loop, name="runs", daemon=True)

    def start(self) -> dict[str, Any]:
        """Start the threads and the job supervisor, and claim what waits.

        Returns:
            What the host allows for containment, as JSON values.
        """
        self.writer.start()
        self._thread.start()
        begun = asyncio.run_coroutine_threadsafe(self._begin(), self.loop)
        return begun.result()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _begin(self) -> dict[str, Any]:
        self._supervisor = await Supervisor.start(
            lease_seconds=settings.LEASE_SECONDS,
            ways=[*settings.JOB_PID_NAMESPACE, "none"],
        )
        found = await host_containment()
        self._live()
        self._want(self._free_slots)
        # At a moment of its own: a fleet that starts together does not look together.
        self.loop.call_later(random.random() * settings.POLL_SECONDS, self._poll)  # noqa: S311
        return found

    def _live(self) -> None:
        """Tell the supervisor that the worker is not frozen, and stop what may not go
        on. On the loop, which waits for no database."""
        self._supervisor.alive()
        self._stop_unrenewed()
        self.loop.call_later(settings.HEARTBEAT_SECONDS / 4, self._live)

    def renewed(self, leases: Iterable[Lease], at: float) -> None:
        """Note which leases have been renewed, and tell the supervisor; `at` is
        `executors.supervisor.clock()` just before. From any thread."""
        keys = [(lease.run_id, lease.attempt) for lease in leases]
        for run_id, attempt in keys:
            active = self._active.get(run_id)
            if active and active.run.attempt == attempt:
                active.renewed_at = at
        self._supervisor.renew(keys, at)

    def _poll(self) -> None:
        """Look whether runs wait, and again in POLL_SECONDS."""
        if self._free_slots and not self._is_told_to_drain:
            self.writer.look().add_done_callback(self._looked)
        self.loop.call_later(settings.POLL_SECONDS, self._poll)

    def _looked(self, look: asyncio.Future[bool]) -> None:
        if look.exception() is None and look.result():
            self._want(self._free_slots)

    def leases(self) -> list[Lease]:
        """The attempts that this worker holds. Safe to call from any thread."""
        held = list(self._active.values())
        return [Lease(active.run.run_id, active.run.attempt) for active in held]

    def stop_runs(self, run_ids: Iterable[int], reason: str) -> None:
        """Stop the jobs of these runs, from any thread; they end as cancelled."""
        ids = list(run_ids)
        if ids:
            self.loop.call_soon_threadsafe(self._stop_runs, ids, reason)

    def _stop_unrenewed(self) -> None:
        """Stop the jobs that another worker may soon start again (C6): those whose
        lease has not been renewed for most of its time.

        The supervisor does so too, for jobs that are processes and should this worker
        not be able to.
        """
        too_old = clock() - GIVE_UP_LEASE_PART * settings.LEASE_SECONDS
        unrenewed = [
            active.run.run_id
            for active in self._active.values()
            if active.renewed_at < too_old and active.is_repeatable
        ]
        self._stop_runs(unrenewed, "lease_lost")

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

    def rest(self, *, is_draining: bool) -> None:
        """Ask for no more runs, as an operator has said, or ask again. The ledger
        would give none anyway; doorbells are left to others. From any thread."""

        def turn() -> None:
            self._is_told_to_drain = is_draining
            self._release(0)

        self.loop.call_soon_threadsafe(turn)

    def stop(self) -> None:
        """Stop what still runs, write all ends, and end the threads."""
        self.stop_runs([lease.run_id for lease in self.leases()], "worker_shutdown")
        self.drain(settings.CANCEL_GRACE_SECONDS + 5)
        self.writer.stop()
        asyncio.run_coroutine_threadsafe(registry.aclose(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def wake(self, runs: int, *, is_called: bool = False) -> None:
        """Answer a doorbell that speaks for so many runs; returns as soon as there is
        room for one. `is_called`: the runs are in a lane, and the bell is this
        worker's own."""
        self._is_called = self._is_called or is_called
        while runs:
            await self._has_room.wait()
            if self._free_slots and not self._is_told_to_drain:
                self._is_rung = True
                self._want(runs)
                return
            self._has_room.clear()

    def _want(self, runs: int) -> None:
        self._wanted = max(self._wanted, min(runs, self._free_slots))
        self._claim_soon()

    def _claim_soon(self) -> None:
        """Claim once in this turn of the loop, however much has changed in it."""
        if not self._is_claiming:
            self._is_claiming = True
            self.loop.call_soon(self._claim_waiting)

    def _claim_waiting(self) -> None:
        self._is_claiming = False
        wanted = self._free_slots if self._is_backlog else self._wanted
        self._wanted = 0
        limit = min(wanted, self._free_slots)
        if limit and not (self._is_draining or self._is_told_to_drain):
            self._free_slots -= limit
            self._claim(limit)

    def _claim(self, limit: int) -> None:
        is_called, self._is_called = self._is_called, False
        is_urgent, self._is_rung = self._is_rung, False
        if self._asked is not None and self.writer.claim_more(
            limit, is_called=is_called, is_urgent=is_urgent
        ):
            self._asked.limit += limit
            return
        # The lease runs from some moment after now.
        self._asked = asked = _Asked(limit, clock())
        self._claims += 1
        self._idle.clear()
        answer = self.writer.claim(limit, is_called=is_called, is_urgent=is_urgent)
        answer.add_done_callback(partial(self._claimed, asked))

    def _claimed(self, asked: _Asked, answer: asyncio.Future[list[ClaimedRun]]) -> None:
        try:
            claimed = answer.result()
        except AWAY:
            claimed = []  # the rows stay queued: the next look finds them
        except Exception:  # whatever it was, the slots must not be lost
            log.exception("claim.failed", runs=asked.limit)
            claimed = []
        # A full answer may have left some: go on until one is not.
        self._is_backlog = len(claimed) == asked.limit
        self._release(asked.limit - len(claimed))
        for run in claimed:
            self._start(run, asked.at)
        self._claims -= 1
        self._note_idle()
        if self._is_backlog:
            self._claim_soon()

    def _note_idle(self) -> None:
        if not self._active and not self._claims:
            self._idle.set()

    def _release(self, slots: int) -> None:
        self._free_slots += slots
        if self._free_slots:
            self._has_room.set()

    def _start(self, run: ClaimedRun, asked_at: float) -> None:
        output = Output(
            run.run_id,
            run.attempt,
            self.writer.append,
            self.writer.cut,
            settings.MAX_LOG_BYTES,
        )
        active = _Active(run, asked_at, output)
        self._active[run.run_id] = active
        try:
            self._execute(active)
        except registry.UnknownExecutor as error:
            unknown = Outcome(
                OutcomeStatus.FAILED, error=str(error), reason="unknown_executor"
            )
            self._ended(active, unknown)
        except Exception:  # its lease will expire; the others must not suffer
            log.exception("run.not_begun", **_names(run))
            self._forget(active)
            self._make_room()

    def _execute(self, active: _Active) -> None:
        run = active.run
        rules = run.definition
        executor = registry.get(rules["executor"])
        lease = JobLease(
            (run.run_id, run.attempt),
            is_repeatable=active.is_repeatable,
            renewed_at=active.renewed_at,
        )
        context = RunContext(
            payload=executor_payload(rules["command"], rules["payload"]),
            environment=_environment(run),
            write=active.output.write,
            grace_seconds=settings.CANCEL_GRACE_SECONDS,
            lease=lease,
        )
        active.work = Execution(
            executor, context, rules["timeout_seconds"], partial(self._ended, active)
        )

    def _ended(self, active: _Active, outcome: Outcome) -> None:
        """Hand the end to the writer.

        The slot is free from then on, so that the next run is claimed for it in the
        transaction of the end, and not in one that comes after.
        """
        active.work = None
        try:
            finish = _finish(active.run, outcome, active.stop_reason, active.output)
            answer = self.writer.finish(finish)
            answer.add_done_callback(partial(self._recorded, active))
        except Exception:  # as above
            log.exception("run.not_reported", **_names(active.run))
            self._forget(active)
        self._make_room()

    def _recorded(self, active: _Active, answer: asyncio.Future[bool]) -> None:
        self._forget(active)
        if not answer.result():
            log.warning("run.stale_result", **_names(active.run))

    def _forget(self, active: _Active) -> None:
        # A later attempt of the run may have come here and taken its place.
        if self._active.get(active.run.run_id) is active:
            del self._active[active.run.run_id]
        self._note_idle()

    def _make_room(self) -> None:
        self._release(1)
        if self._is_backlog:
            self._claim_soon()

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
        "GNOMON_SHARD_INDEX": str(run.shard_index),
        "GNOMON_SHARD_TOTAL": str(run.shard_total),
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
