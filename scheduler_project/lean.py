"""What the processes of the platform do not load (docs/footprint.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import PurePath

COMPANIONS = ("rich", "pygments", "yaml", "redis", "psutil", "requests")
"""rich draws tracebacks and pygments pages that nobody sees, yaml reads messages, which
are refused, redis would hold the state of breakers, psutil tells of memory on a signal,
requests is for tests: 10 MB of a worker's 55, 9 MB of the web's 75."""
LIBRARIES = ("structlog", "kombu.serialization", "pybreaker", "celery.utils.debug")


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
    with _missing(*COMPANIONS):
        for name in modules:
            import_module(name)


def forget_time_zones() -> None:
    """Keep django-celery-beat's models from loading all time zones, 2 MB, which are
    the choices of a form. Zones are read by name all the same. Before models load."""
    from timezone_field.backends import zoneinfo  # noqa: PLC0415 - needs settings

    zoneinfo.ZoneInfoBackend.base_tzstrs = {"UTC"}


@contextmanager
def _missing(*modules: str) -> Iterator[None]:
    """Have `import` find none of these while the block lasts."""
    missing = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None: no such
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
