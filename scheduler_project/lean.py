"""What the processes of the platform do not load (docs/footprint.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import PurePath
from threading import Lock
from types import ModuleType
from typing import Any

COMPANIONS = ("rich", "pygments", "yaml", "redis", "psutil", "requests")
"""rich draws tracebacks and pygments pages that nobody sees, yaml reads messages, which
are refused, redis would hold the state of breakers, psutil tells of memory on a signal,
requests is for tests: 10 MB of a worker's 55, 9 MB of the web's 75."""
LIBRARIES = ("structlog", "kombu.serialization", "pybreaker", "celery.utils.debug")
LATE = ("billiard.pool", "django.forms", "sqlparse")
"""What Celery imports for pools that are not ours, and Django for forms of models and
for scripts of SQL, is loaded when first used: 2 MB."""
SPARED = {
    "celery.app.base": {"click": "ClickException", "click.exceptions": "Exit"},
    "django.utils.log": {"django.core.mail": "get_connection"},
    "timezone_field": {"timezone_field.forms": "TimeZoneFormField"},
}
"""Libraries that take along another module for one name, which no beat or worker needs:
errors of Celery's command line, mail to administrators, a form's field. 2 MB."""


def is_work(argv: Sequence[str]) -> bool:
    """Whether a process only does work: `manage.py worker` and `manage.py beat`, and
    all that Celery's own command starts. `argv` is the process's `sys.argv`.

    It has no page and no API, so it loads no app that is for those.
    """
    program = PurePath(argv[0])
    if program.name == "manage.py":
        return argv[1:2] in (["worker"], ["beat"])
    return program.name == "celery" or program.parts[-2:] == ("celery", "__main__.py")


def import_alone(*modules: str) -> None:
    """Import libraries without those that they take along where these are installed."""
    with _instead(dict.fromkeys(COMPANIONS)):
        for name in modules:
            import_module(name)


def import_for_work() -> None:
    """In a process that only does work, do without what pages, mail and command lines
    are made of. Before any of LIBRARIES, and before Django's models load."""
    for name in LATE:
        if name not in sys.modules:
            sys.modules[name] = _Late(name)
    for library in ("celery.app.base", "django.utils.log"):
        with _spared(library):
            import_alone(library)


def forget_time_zones() -> None:
    """Keep django-celery-beat's models from loading all time zones, 2 MB, which are
    the choices of a form. Zones are read by name all the same. Before models load."""
    with _spared("timezone_field"):
        from timezone_field.backends import zoneinfo  # noqa: PLC0415 - needs settings

    zoneinfo.ZoneInfoBackend.base_tzstrs = {"UTC"}


class _Late(ModuleType):
    """A module that loads when something in it is first asked for, from any thread.

    Not importlib's LazyLoader: in Python 3.11 a second thread may find its module half
    loaded.
    """

    def __getattr__(self, name: str) -> Any:
        with _late_lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


_late_lock = Lock()


@contextmanager
def _spared(library: str) -> Iterator[None]:
    """Import the library in the block without what SPARED says of it: an exception
    stands for each name, for it can be imported, derived from, and called."""
    stand_ins = {module: ModuleType(module) for module in SPARED[library]}
    for module, name in SPARED[library].items():
        setattr(stand_ins[module], name, type(name, (Exception,), {}))
    with _instead(stand_ins):
        yield


@contextmanager
def _instead(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Have `import` find these while the block lasts, or none where there is None,
    in place of what has not been loaded."""
    missing = {name: each for name, each in modules.items() if name not in sys.modules}
    sys.modules.update(missing)  # type: ignore[arg-type]  # None: no such
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
