"""The executors of this process by name: the built-in ones and installed plug-ins.

A plug-in is an entry point of group `gnomon.executors` that loads to an executor or
to a class of executors that takes no arguments.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from executors.base import Executor

GROUP = "gnomon.executors"
BUILT_IN = {
    "shell": "executors.shell:ShellExecutor",
    "http": "executors.http:HttpExecutor",
    "python": "executors.python:PythonExecutor",
}
"""Loaded when they are first asked for: a worker without HTTP calls is 3 MB smaller."""

log = logging.getLogger(__name__)


class UnknownExecutor(LookupError):
    """No executor has this name."""

    code = "unknown_executor"

    def __init__(self, name: str) -> None:
        self.name = name
        known = ", ".join(names())
        super().__init__(f"unknown executor {name!r}; installed are: {known}")


class BrokenExecutor(TypeError):
    """An entry point loads to something that is not an executor."""


def get(name: str) -> Executor:
    """The executor of that name. Raises UnknownExecutor, which lists the known ones."""
    if name in BUILT_IN:
        return _built_in(name)
    try:
        return _plugins()[name]
    except KeyError:
        raise UnknownExecutor(name) from None


def names() -> tuple[str, ...]:
    """The names of all usable executors, built-in ones first."""
    return (*BUILT_IN, *_plugins())


def target(name: str, payload: Mapping[str, Any]) -> str:
    """What else must be well for a valid payload to work: the host and port that it
    calls, for a circuit breaker. Empty unless the executor has a method `target`.

    Raises UnknownExecutor.
    """
    find = getattr(get(name), "target", None)
    return str(find(payload)) if find is not None else ""


def reload() -> None:
    """Look at the installed entry points again at the next `get` or `names`."""
    _plugins.cache_clear()


async def aclose() -> None:
    """Give back what executors hold for the running loop; call before closing it."""
    for executor in list(_used.values()):
        close = getattr(executor, "aclose", None)
        if close is not None:
            await close()


_used: dict[str, Executor] = {}
"""The built-in executors that have been asked for, and every plug-in."""


def _built_in(name: str) -> Executor:
    if name not in _used:
        module, _, kind = BUILT_IN[name].partition(":")
        _used[name] = getattr(import_module(module), kind)()
    return _used[name]


@cache
def _plugins() -> dict[str, Executor]:
    found: dict[str, Executor] = {}
    for entry_point in entry_points(group=GROUP):
        if entry_point.name in {*BUILT_IN, *found}:
            # A package must not be able to replace `shell` by being installed.
            log.error("executor.name_taken: %s", _describe(entry_point))
            continue
        try:
            found[entry_point.name] = _load(entry_point)
        except Exception:  # a plug-in may fail in any way and must fail alone
            log.exception("executor.broken: %s is left out", _describe(entry_point))
    _used.update(found)
    return found


def _load(entry_point: EntryPoint) -> Executor:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 2 MB, for plug-ins

    loaded = entry_point.load()
    executor = loaded() if isinstance(loaded, type) else loaded
    if not isinstance(executor, Executor):
        raise BrokenExecutor(
            "an executor has `name`, `schema` and `async run(context)`"
        )
    if executor.name != entry_point.name:
        raise BrokenExecutor(f"the executor calls itself {executor.name!r}")
    Draft202012Validator.check_schema(executor.schema)
    return executor


def _describe(entry_point: EntryPoint) -> str:
    package = entry_point.dist.name if entry_point.dist else "unknown package"
    return f"{entry_point.name} = {entry_point.value} ({package})"
