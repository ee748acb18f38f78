from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from executors.base import Outcome, OutcomeStatus, RunContext
from executors.execution import Execution, execute
from tests.executors.harness import Output

DONE = Outcome(OutcomeStatus.SUCCEEDED, result="done")


class Scripted:
    """An executor that does what the test says."""

    name = "scripted"
    schema: dict[str, Any] = {"type": "object"}

    def __init__(self, script: Callable[[], Awaitable[Outcome]]) -> None:
        self.script = script

    async def run(self, context: RunContext) -> Outcome:
        del context
        return await self.script()


def start(
    script: Callable[[], Awaitable[Outcome]], timeout_seconds: float | None = None
) -> asyncio.Task[Outcome]:
    context = RunContext(payload={}, environment={}, write=Output().write)
    return asyncio.create_task(execute(Scripted(script), context, timeout_seconds))


def outcome_of(
    script: Callable[[], Awaitable[Outcome]], timeout_seconds: float | None = None
) -> Outcome:
    async def work() -> Outcome:
        return await start(script, timeout_seconds)

    return asyncio.run(work())


async def for_ever() -> Outcome:
    await asyncio.Event().wait()
    return DONE


def test_an_unexpected_exception_fails_the_run_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def breaks() -> Outcome:
        raise KeyError("first\nsecond\x00")

    outcome = outcome_of(breaks)
    assert (outcome.status, outcome.reason) == (OutcomeStatus.FAILED, "executor_error")
    assert outcome.error.startswith("KeyError: ")
    assert outcome.error.isprintable()
    assert "Traceback" in caplog.text


def test_a_timeout_error_of_the_executor_is_no_timeout_of_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)

    async def breaks() -> Outcome:
        raise TimeoutError("the database did not answer")

    assert outcome_of(breaks, 60).reason == "executor_error"


def test_a_cancellation_nobody_asked_for_is_a_failure() -> None:
    async def breaks() -> Outcome:
        raise asyncio.CancelledError

    assert outcome_of(breaks).reason == "executor_error"


def test_no_timeout_means_no_limit() -> None:
    async def brief() -> Outcome:
        await asyncio.sleep(0.01)
        return DONE

    assert outcome_of(brief, None) is DONE


def test_an_executor_that_had_finished_wins_over_the_cancel() -> None:
    async def work() -> Outcome:
        finished = asyncio.Event()

        async def finishes() -> Outcome:
            finished.set()
            return DONE

        task = start(finishes)
        await finished.wait()
        task.cancel()
        return await task

    assert asyncio.run(work()) is DONE


def test_cancelling_again_does_not_cut_the_grace() -> None:
    interruptions = 0

    async def stops_slowly() -> Outcome:
        nonlocal interruptions
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                interruptions += 1
                raise
        return DONE

    async def work() -> Outcome:
        task = start(stops_slowly)
        for _ in range(5):
            await asyncio.sleep(0.01)
            task.cancel()
        return await task

    assert asyncio.run(work()).status is OutcomeStatus.CANCELLED
    assert interruptions == 0


@pytest.mark.parametrize(
    ("timeout_seconds", "cancel_after_seconds", "status"),
    [
        (0.02, 0.06, OutcomeStatus.TIMED_OUT),
        (0.06, 0.02, OutcomeStatus.CANCELLED),
    ],
)
def test_the_first_of_timeout_and_cancel_names_the_outcome(
    timeout_seconds: float, cancel_after_seconds: float, status: OutcomeStatus
) -> None:
    async def stops_slowly() -> Outcome:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.15)
        return DONE

    async def work() -> Outcome:
        task = start(stops_slowly, timeout_seconds)
        await asyncio.sleep(cancel_after_seconds)
        task.cancel()
        return await task

    assert asyncio.run(work()).status is status


def test_the_caller_can_go_on_after_a_cancel() -> None:
    async def run_then_record() -> tuple[Outcome, int]:
        context = RunContext(payload={}, environment={}, write=Output().write)
        outcome = await execute(Scripted(for_ever), context, None)
        await asyncio.sleep(0)
        current = asyncio.current_task()
        assert current is not None
        return outcome, current.cancelling()

    async def work() -> tuple[Outcome, int]:
        task = asyncio.create_task(run_then_record())
        await asyncio.sleep(0.01)
        task.cancel()
        return await task

    outcome, cancelling = asyncio.run(work())
    assert outcome.status is OutcomeStatus.CANCELLED
    assert cancelling == 0


def test_an_executor_that_stumbles_while_stopping_is_still_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stumbles() -> Outcome:
        try:
            return await for_ever()
        finally:
            raise OSError("socket already closed")

    async def work() -> Outcome:
        task = start(stumbles)
        await asyncio.sleep(0.01)
        task.cancel()
        return await task

    assert asyncio.run(work()).status is OutcomeStatus.CANCELLED
    assert "socket already closed" in caplog.text


def test_cancelled_before_it_begins_it_ends_as_cancelled_and_starts_nothing() -> None:
    begun: list[bool] = []

    async def begins() -> Outcome:
        begun.append(True)
        return DONE

    async def work() -> Outcome:
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        context = RunContext(payload={}, environment={}, write=Output().write)
        execution = Execution(Scripted(begins), context, 60, ended.set_result)
        execution.cancel()
        return await ended

    assert asyncio.run(work()).status is OutcomeStatus.CANCELLED
    assert not begun


def test_an_executor_that_exits_fails_its_run_alone() -> None:
    async def exits() -> Outcome:
        raise SystemExit(3)

    assert outcome_of(exits).error == "SystemExit: 3"
