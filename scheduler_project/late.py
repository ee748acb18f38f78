"""Modules that run when something in them is first asked for, in any thread.

A late module has its place in `sys.modules`, its spec and its path from the first
import on; only its code has not run. It runs in the same module, so whoever holds that
has all of it then.

Not importlib's LazyLoader: in Python 3.11 a second thread may find its module half
run, and it runs a package for each of its modules, and for each name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock, get_ident
from types import ModuleType
from typing import Any

Place = str | None | Callable[[], Any]
Places = Mapping[str, Place]
"""Names of a late module that are given without running it: those of a module within
(its name), stand-ins (None), and values (what makes them)."""


def import_late(modules: Mapping[str, Places]) -> None:
    """Have `import` find these as late modules, if it has not found them before."""
    sys.meta_path.insert(0, _Finder(modules))


class _Finder:
    """The first of `sys.meta_path`."""

    def __init__(self, modules: Mapping[str, Places]) -> None:
        self._modules = modules

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - importlib's signature
    ) -> ModuleSpec | None:
        if name not in self._modules:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None:
            loader: Any = _Loader(spec.loader, self._modules[name])
            spec.loader = loader
        return spec


class _Loader:
    """Loads one late module, in place of the loader that can run it."""

    def __init__(self, loader: Any, places: Places) -> None:
        self._loader = loader
        self._places = places
        self._has_run = False
        self._running: set[int] = set()
        self._lock = RLock()

    def create_module(self, spec: ModuleSpec) -> None:
        """None: as importlib makes it."""

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        vars(module)["__getattr__"] = partial(self._find, module)

    def _find(self, module: ModuleType, name: str) -> Any:
        """The `__getattr__` of the module (PEP 562)."""
        if name == "__path__" or get_ident() in self._running:
            raise AttributeError(f"module {module.__name__!r} has no {name!r}")
        within = f"{module.__name__}.{name}"
        if name in self._places:
            place = self._places[name]
            if place is None:
                return StandIn(partial(self._whole, module, name))
            if callable(place):
                return place()
            return getattr(import_module(f"{module.__name__}.{place}"), name)
        if PathFinder.find_spec(within, vars(module).get("__path__", ())):
            return import_module(within)
        return self._whole(module, name)

    def _whole(self, module: ModuleType, name: str) -> Any:
        with self._turn(module):
            if not self._has_run:
                self._run(module)
        try:
            return vars(module)[name]
        except KeyError:
            raise AttributeError(f"{module.__name__!r} has no {name!r}") from None

    def _turn(self, module: ModuleType) -> AbstractContextManager[Any]:
        """One thread at a time runs a module. But not a package: one thread may import
        a module within, which asks for a name of the package, while another runs the
        package, which imports that module: each would wait for the other. To run twice
        does no harm where all is taken from modules within."""
        return nullcontext() if "__path__" in vars(module) else self._lock

    def _run(self, module: ModuleType) -> None:
        self._running.add(get_ident())
        try:
            self._loader.exec_module(module)
        finally:
            self._running.discard(get_ident())
        self._has_run = True


class StandIn:
    """Stands for a function or a class that a library takes from a late module. It can
    be called, looked into, asked for instances, and derived from."""

    def __init__(self, real: Callable[[], Any]) -> None:
        self._real = real

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._real())

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)
