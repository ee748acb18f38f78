"""One attempt under its deadline: whatever happens, it ends in one outcome."""

from __future__ import annotations

import asyncio
import logging

from executors.base import Executor, Outcome, OutcomeStatus, RunContext
from executors.text import one_line

log = logging.getLogger(__name__)


async def execute(
    executor: Executor, context: RunContext, timeout_seconds: float | None
) -> Outcome:
    """Run `executor` and return how it ended; raises nothing.

    To cancel, cancel the task that awaits this and await that task: it returns the
    outcome, CANCELLED unless the executor had finished first. Cancelling again
    changes nothing: the job keeps its whole grace. `timeout_seconds` counts from
    the call; None means no limit. The first of timeout and cancel names the outcome.
    """
    work = asyncio.ensure_future(executor.run(context))
    stopped = await _wait(work, timeout_seconds)
    if stopped is not None:
        work.cancel()
        while not work.done():
            await _wait(work, None)
    return _outcome(work, stopped)


async def _wait(
    work: asyncio.Task[Outcome], timeout_seconds: float | None
) -> Outcome | None:
    """Wait for the end of `work`; return what ends it early, if anything does."""
    try:
        await asyncio.wait({work}, timeout=timeout_seconds)
    except asyncio.CancelledError:
        # The cancel is answered by an outcome, so the caller's task goes on as if
        # it had not been cancelled: it still has that outcome to record.
        current = asyncio.current_task()
        if current is not None:
            current.uncancel()
        stopped = Outcome(
            OutcomeStatus.CANCELLED, error="cancelled", reason="cancelled"
        )
    else:
        stopped = Outcome(
            OutcomeStatus.TIMED_OUT,
            error=f"timed out after {timeout_seconds or 0:g} s",
            reason="timeout",
        )
    return None if work.done() else stopped


def _outcome(work: asyncio.Task[Outcome], stopped: Outcome | None) -> Outcome:
    if work.cancelled():
        return stopped or _broken(asyncio.CancelledError("not asked for"))
    error = work.exception()
    if error is None:
        return work.result()
    if stopped is not None:
        # It was asked to stop and stumbled on the way out: it did stop.
        log.error("executor.stop_failed", exc_info=error)
        return stopped
    log.error("executor.failed", exc_info=error)
    return _broken(error)


def _broken(error: BaseException) -> Outcome:
    return Outcome(
        OutcomeStatus.FAILED,
        error=one_line(f"{type(error).__name__}: {error}"),
        reason="executor_error",
    )
