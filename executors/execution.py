"""One attempt under its deadline: whatever happens, it ends in one outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from executors.base import Executor, Outcome, OutcomeStatus, RunContext
from executors.text import one_line

log = logging.getLogger(__name__)


class Execution:
    """An attempt under way on the running loop; `ended` is called with its outcome.

    Raises nothing, and calls `ended` in a later turn of the loop. `timeout_seconds`
    counts from the construction; None means no limit. The first of timeout and cancel
    names the outcome. All is done in one task, the executor's: others that wait for it
    would cost a short run as much again.
    """

    __slots__ = ("_ended", "_is_begun", "_stopped", "_timer", "_work")

    def __init__(
        self,
        executor: Executor,
        context: RunContext,
        timeout_seconds: float | None,
        ended: Callable[[Outcome], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._ended = ended
        self._is_begun = False
        self._stopped: Outcome | None = None
        self._timer: asyncio.TimerHandle | None = None
        if timeout_seconds is not None:
            self._timer = loop.call_later(
                timeout_seconds, self._time_out, timeout_seconds
            )
        self._work = loop.create_task(self._run(executor, context))

    def cancel(self) -> None:
        """Stop the executor: the outcome is CANCELLED, unless it had finished first.
        Cancelling again changes nothing: the job keeps its whole grace."""
        self._stop(
            Outcome(OutcomeStatus.CANCELLED, error="cancelled", reason="cancelled")
        )

    def _time_out(self, seconds: float) -> None:
        self._stop(
            Outcome(
                OutcomeStatus.TIMED_OUT,
                error=f"timed out after {seconds:g} s",
                reason="timeout",
            )
        )

    def _stop(self, outcome: Outcome) -> None:
        if self._stopped is None:
            self._stopped = outcome
            if self._is_begun:  # else the task would end before it could tell
                self._work.cancel()

    async def _run(self, executor: Executor, context: RunContext) -> None:
        self._is_begun = True
        outcome = self._stopped or await self._outcome(executor, context)
        if self._timer is not None:
            self._timer.cancel()
        self._ended(outcome)

    async def _outcome(self, executor: Executor, context: RunContext) -> Outcome:
        try:
            return await executor.run(context)
        except asyncio.CancelledError:
            return self._stopped or _broken(asyncio.CancelledError("not asked for"))
        except (Exception, SystemExit) as error:
            if self._stopped is not None:
                # It was asked to stop and stumbled on the way out: it did stop.
                log.exception("executor.stop_failed")
                return self._stopped
            log.exception("executor.failed")
            return _broken(error)


async def execute(
    executor: Executor, context: RunContext, timeout_seconds: float | None
) -> Outcome:
    """Run `executor` and return how it ended; raises nothing.

    To cancel, cancel the task that awaits this and await that task: it returns the
    outcome, as `Execution` names it. Cancelling again changes nothing.
    """
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    execution = Execution(executor, context, timeout_seconds, outcome.set_result)
    while True:
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            # The cancel is answered by an outcome, so the caller's task goes on as if
            # it had not been cancelled: it still has that outcome to record.
            current = asyncio.current_task()
            if current is not None:
                current.uncancel()
            execution.cancel()


def _broken(error: BaseException) -> Outcome:
    return Outcome(
        OutcomeStatus.FAILED,
        error=one_line(f"{type(error).__name__}: {error}"),
        reason="executor_error",
    )
