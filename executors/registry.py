"""The executors of this process by name: the built-in ones and installed plug-ins.

A plug-in is an entry point of group `gnomon.executors` that loads to an executor or
to a class of executors that takes no arguments.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from jsonschema import Draft202012Validator

from executors.base import Executor
from executors.http import HttpExecutor
from executors.python import PythonExecutor
from executors.shell import ShellExecutor

GROUP = "gnomon.executors"

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
    try:
        return _installed()[name]
    except KeyError:
        raise UnknownExecutor(name) from None


def names() -> tuple[str, ...]:
    """The names of all usable executors, built-in ones first."""
    return tuple(_installed())


def reload() -> None:
    """Look at the installed entry points again at the next `get` or `names`."""
    _installed.cache_clear()


async def aclose() -> None:
    """Give back what executors hold for the running loop; call before closing it."""
    for executor in _installed().values():
        close = getattr(executor, "aclose", None)
        if close is not None:
            await close()


@cache
def _installed() -> dict[str, Executor]:
    found: dict[str, Executor] = {
        executor.name: executor
        for executor in (ShellExecutor(), HttpExecutor(), PythonExecutor())
    }
    for entry_point in entry_points(group=GROUP):
        if entry_point.name in found:
            # A package must not be able to replace `shell` by being installed.
            log.error("executor.name_taken: %s", _describe(entry_point))
            continue
        try:
            found[entry_point.name] = _load(entry_point)
        except Exception:  # a plug-in may fail in any way and must fail alone
            log.exception("executor.broken: %s is left out", _describe(entry_point))
    return found


def _load(entry_point: EntryPoint) -> Executor:
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
