"""Calls a Python function that was made available by name, never by import path.

Available is what `@register_callable("name")` marked, and what installed packages
offer in the entry-point group `gnomon.callables`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from executors.base import Outcome, OutcomeStatus, RunContext
from executors.text import one_line, unstorable_parts

GROUP = "gnomon.callables"
MAX_THREADS = 16
MAX_RESULT_BYTES = 1_048_576

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Python callable",
    "description": "Calls a function that was registered on the worker by name. It runs"
    " in a thread and cannot be stopped: a cancel ends the run, not the thread.",
    "type": "object",
    "additionalProperties": False,
    "required": ["command"],
    "properties": {
        "command": {
            "title": "Callable",
            "description": "The registered name of the function, not an import path.",
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "examples": ["reports.monthly"],
        },
        "kwargs": {
            "title": "Keyword arguments",
            "description": "Passed to the function by name.",
            "type": "object",
            "maxProperties": 100,
            "examples": [{"month": "2026-01"}],
        },
    },
}

_registered: dict[str, Callable[..., Any]] = {}
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
    WeakKeyDictionary()
)


def register_callable(name: str) -> Callable[[Function], Function]:
    """Make the decorated plain function callable by tasks under `name`.

    Raises ValueError if another function has that name, TypeError for `async def`.
    """

    def register(function: Function) -> Function:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{name}: a callable is a plain function, not async")
        if _registered.setdefault(name, function) is not function:
            raise ValueError(f"another callable is registered as {name!r}")
        return function

    return register


class PythonExecutor:
    """Calls a registered function in a thread; its JSON value is the result.

    Python cannot kill a thread. When the run is cancelled or times out this returns
    at once and the function goes on, its outcome unheard; long work belongs in the
    shell executor. What the function prints goes to the worker's own output.
    """

    name = "python"
    schema = SCHEMA

    async def run(self, context: RunContext) -> Outcome:
        """Call the function and wait for it, or stop waiting when cancelled."""
        name = context.payload["command"]
        function = _registered.get(name) or _installed().get(name)
        if function is None:
            known = ", ".join(sorted({*_registered, *_installed()})) or "none"
            return _failed(
                "unknown_callable",
                f"this worker has no callable {name!r}; registered are: {known}",
            )
        loop = asyncio.get_running_loop()
        async with _slots.setdefault(loop, asyncio.Semaphore(MAX_THREADS)):
            return await _call(function, context.payload.get("kwargs", {}))


async def _call(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> Outcome:
    """Call in a thread of its own, a daemon: it cannot hold up the worker's exit.

    The pools of concurrent.futures join their threads at exit, for ever if need be,
    and a function that never returns keeps a place in them.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Outcome] = loop.create_future()

    def deliver(outcome: Outcome) -> None:
        if not answer.done():
            answer.set_result(outcome)

    def work() -> None:
        outcome = _answer(function, kwargs)
        try:
            loop.call_soon_threadsafe(deliver, outcome)
        except RuntimeError:
            log.warning("callable.too_late: the worker has stopped listening")

    threading.Thread(target=work, name="gnomon-callable", daemon=True).start()
    try:
        return await answer
    except asyncio.CancelledError:
        if answer.cancelled():
            raise
        return answer.result()  # it had finished before the cancel came


def _answer(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> Outcome:
    try:
        value = function(**kwargs)
    except BaseException as error:  # SystemExit would stop the worker
        log.info("callable.failed", exc_info=error)
        return _failed("exception", f"{type(error).__name__}: {error}")
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return _failed("result_invalid", f"the result is not a JSON value: {error}")
    if len(text) > MAX_RESULT_BYTES:
        return _failed(
            "result_too_large", f"the result exceeds {MAX_RESULT_BYTES} bytes"
        )
    result = json.loads(text)
    for path, _, message in unstorable_parts(result):
        return _failed("result_invalid", f"result {'.'.join(path)}: {message}")
    return Outcome(OutcomeStatus.SUCCEEDED, result=result)


def _failed(reason: str, error: str) -> Outcome:
    return Outcome(OutcomeStatus.FAILED, reason=reason, error=one_line(error))


@cache
def _installed() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for entry_point in entry_points(group=GROUP):
        try:
            found[entry_point.name] = _load(entry_point)
        except Exception:  # a plug-in may fail in any way and must fail alone
            log.exception("callable.broken: %s is left out", entry_point.name)
    return found


def _load(entry_point: EntryPoint) -> Callable[..., Any]:
    function = entry_point.load()
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"{entry_point.value} is not a plain function")
    return function  # type: ignore[no-any-return]  # entry points are untyped
