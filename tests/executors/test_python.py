from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import Any

import pytest

from executors.base import OutcomeStatus
from executors.python import MAX_THREADS, register_callable
from tests.executors.harness import eventually, in_loop, run, start

release = threading.Event()
running: set[int] = set()


@register_callable("tests.echo")
def echo(value: Any = None) -> Any:
    return value


@register_callable("tests.strange")
def strange(kind: str) -> Any:
    return {
        "object": object(),
        "nul": {"a": ["\x00"]},
        "nan": float("nan"),
        "large": "x" * 2_000_000,
        "surrogate": "\ud800",
    }[kind]


@register_callable("tests.exit")
def leave() -> None:
    sys.exit(3)


@register_callable("tests.hold")
def hold(number: int) -> None:
    running.add(number)
    release.wait(20)


@pytest.mark.parametrize("value", [None, 1, "ü", [1.5, {"a": True}]])
def test_the_returned_value_is_the_result(value: Any) -> None:
    outcome = run("python", {"command": "tests.echo", "kwargs": {"value": value}})
    assert (outcome.status, outcome.result) == (OutcomeStatus.SUCCEEDED, value)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("object", "result_invalid"),
        ("nul", "result_invalid"),
        ("nan", "result_invalid"),
        ("surrogate", "result_invalid"),
        ("large", "result_too_large"),
    ],
)
def test_a_value_that_cannot_be_stored_fails_the_run(kind: str, reason: str) -> None:
    outcome = run("python", {"command": "tests.strange", "kwargs": {"kind": kind}})
    assert (outcome.status, outcome.reason) == (OutcomeStatus.FAILED, reason)


def test_an_import_path_is_not_callable() -> None:
    outcome = run("python", {"command": "os.getcwd"})
    assert outcome.reason == "unknown_callable"
    assert "tests.echo" in outcome.error


def test_wrong_arguments_are_an_exception_of_the_job() -> None:
    outcome = run("python", {"command": "tests.echo", "kwargs": {"nope": 1}})
    assert outcome.reason == "exception"
    assert "nope" in outcome.error


def test_a_callable_that_exits_does_not_take_the_worker_down() -> None:
    outcome = run("python", {"command": "tests.exit"})
    assert (outcome.reason, outcome.error) == ("exception", "SystemExit: 3")


def test_no_more_threads_run_than_allowed() -> None:
    async def work() -> None:
        tasks = [
            start("python", {"command": "tests.hold", "kwargs": {"number": number}})
            for number in range(MAX_THREADS + 4)
        ]
        await eventually(lambda: len(running) == MAX_THREADS)
        await asyncio.sleep(0.05)
        assert len(running) == MAX_THREADS
        release.set()
        await asyncio.gather(*tasks)
        assert len(running) == MAX_THREADS + 4

    in_loop(work())


def test_an_outcome_after_the_end_of_the_loop_is_dropped_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    release.clear()
    payload = {"command": "tests.hold", "kwargs": {"number": 0}}
    outcome = run("python", payload, timeout_seconds=0.05)
    assert outcome.status is OutcomeStatus.TIMED_OUT
    release.set()
    asyncio.run(eventually(lambda: "too_late" in caplog.text))


def test_a_name_belongs_to_one_function() -> None:
    register_callable("tests.echo")(echo)
    with pytest.raises(ValueError, match=r"tests\.echo"):
        register_callable("tests.echo")(leave)


def test_an_async_function_is_refused_at_once() -> None:
    async def later() -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        register_callable("tests.later")(later)
