"""What the processes of the platform do not load (docs/footprint.md)."""

from __future__ import annotations

import os.path  # not pathlib, which takes along a part of what is late
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from scheduler_project.late import Place, Places, import_late


def _stand_ins(*names: str) -> dict[str, Place]:
    return dict.fromkeys(names)


def _no_prefix(_prefix: str) -> None:
    """Django's start sets the one of all URLs, of which a beat or a worker has none."""


def _version(library: str) -> str:
    found: str = import_module("importlib.metadata").version(library)
    return found


COMPANIONS = ("rich", "pygments", "yaml", "redis", "psutil", "requests")
"""rich draws tracebacks and pygments pages that nobody sees, yaml reads messages, which
are refused, redis would hold the state of breakers, psutil tells of memory on a signal,
requests is for tests: 10 MB of a worker's 55, 9 MB of the web's 75."""
LIBRARIES = ("structlog", "kombu.serialization", "pybreaker", "celery.utils.debug")
LATE: Mapping[str, Places] = {
    "redis": {
        "Connection": "connection",
        "ConnectionPool": "connection",
        "CredentialProvider": "credentials",
        "Redis": "client",
        "RedisError": "exceptions",
        "ResponseError": "exceptions",
        "SSLConnection": "connection",
        "UnixDomainSocketConnection": "connection",
        "VERSION": lambda: tuple(map(int, _version("redis").split("."))),
    },
    "redis._parsers.commands": _stand_ins("AsyncCommandsParser", "CommandsParser"),
    "redis.asyncio": {},
    "redis.commands": {
        "CoreCommands": "core",
        "RedisModuleCommands": "redismodules",
        "SentinelCommands": "sentinel",
        "list_or_args": "helpers",
    },
    # The standard library
    "asyncio.sslproto": {},
    "bz2": _stand_ins("compress", "decompress"),
    "difflib": _stand_ins("SequenceMatcher", "get_close_matches"),
    "logging.handlers": _stand_ins("WatchedFileHandler"),
    "lzma": _stand_ins("compress", "decompress"),
    "shelve": {},
    "socketserver": _stand_ins("StreamRequestHandler", "ThreadingTCPServer"),
    "stringprep": {},
    "zipfile": {},
    # Celery and what it uses
    "amqp": {
        "ChannelError": "exceptions",
        "ConnectionError": "exceptions",
        "RecoverableConnectionError": "exceptions",
        "ResourceError": "exceptions",
    },
    "billiard.pool": {},
    "celery.canvas": _stand_ins(
        *(
            "Signature",
            "_chain",
            "chain",
            "chord",
            "chunks",
            "group",
            "maybe_signature",
        ),
        *("signature", "subtask", "xmap", "xstarmap"),
    ),
    "celery.events": {
        "Event": "event",
        "EventDispatcher": "dispatcher",
        "event_exchange": "event",
        "get_exchange": "event",
        "group_from": "event",
    },
    "dateutil.parser": _stand_ins("isoparse"),
    "dateutil.tz": {},
    "tzlocal": _stand_ins("get_localzone"),
    # Others
    "cron_descriptor": {
        "FormatException": "Exception",
        "MissingFieldException": "Exception",
        "WrongArgumentException": "Exception",
        **_stand_ins("get_description"),
    },
    "psycopg.connection_async": _stand_ins("AsyncConnection"),
}
"""Of redis-py its asynchronous half, its cluster and what watches keys, 3 MB of 7. And
what other libraries import for what few processes do: TLS of asyncio, AMQP, chains of
tasks, a broker's events, cron in words. Each with the names that they take from it."""
LATE_FOR_WORK: Mapping[str, Places] = {
    # The standard library
    "calendar": _stand_ins("monthrange", "timegm"),
    "csv": {},
    "gzip": _stand_ins("GzipFile", "compress"),
    "html": _stand_ins("escape", "unescape"),
    "importlib.resources": {},
    "ssl": {
        **_stand_ins("CERT_NONE", "VerifyFlags"),
        # They are caught, so they are the very ones.
        "SSLError": lambda: import_module("_ssl").SSLError,
        "SSLWantReadError": lambda: import_module("_ssl").SSLWantReadError,
        "SSLWantWriteError": lambda: import_module("_ssl").SSLWantWriteError,
    },
    # Django
    "django.core.checks": {"ERROR": "messages", "run_checks": "registry"},
    "django.core.files.storage": {"Storage": "base", **_stand_ins("default_storage")},
    "django.core.serializers": {},
    "django.db.backends.postgresql.schema": _stand_ins("DatabaseSchemaEditor"),
    "django.db.models.functions": {
        "Cast": "comparison",
        "Coalesce": "comparison",
        "Collate": "comparison",
        "Trunc": "datetime",  # which registers `date`, `year`, ... with the fields
        **_stand_ins("Mod", "Random", "RowNumber"),
    },
    "django.forms": {},
    "django.http": {},
    "django.urls": {"set_script_prefix": lambda: _no_prefix},
    "django.utils.autoreload": {
        **_stand_ins("is_django_module", "is_django_path"),
        "autoreload_started": lambda: import_module("django.dispatch").Signal(),
        "file_changed": lambda: import_module("django.dispatch").Signal(),
    },
    # Others
    "django_celery_beat.validators": _stand_ins(
        *("day_of_month_validator", "day_of_week_validator", "hour_validator"),
        *("minute_validator", "month_of_year_validator"),
    ),
    "sqlparse": {},
    "tasks_app.ledger.planning": _stand_ins(
        *("PauseOutlook", "Planned", "end_pause", "pause_outlook", "plan"),
        "seconds_until_due",
    ),
}
"""What a beat or a worker does without, or seldom uses: pages, forms, checks, TLS; and
planning, which only a beat does. With LATE, 6 MB of 46."""
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
    folder, program = os.path.split(argv[0])
    if program == "manage.py":
        return argv[1:2] in (["worker"], ["beat"])
    return program == "celery" or (
        program == "__main__.py" and os.path.basename(folder) == "celery"
    )


def import_alone(*modules: str) -> None:
    """Import libraries without those that they take along where these are installed."""
    with _instead(dict.fromkeys(COMPANIONS)):
        for name in modules:
            import_module(name)


def import_for_work() -> None:
    """In a process that only does work, do without what pages, mail and command lines
    are made of. Before any of LIBRARIES, and before Django's models load."""
    # Python names a zip of its library: metadata would look into it, with zipfile.
    sys.path[:] = [
        path for path in sys.path if not path.endswith(".zip") or os.path.exists(path)
    ]
    import_late(LATE_FOR_WORK)
    for library in ("celery.app.base", "django.utils.log"):
        with _spared(library):
            import_alone(library)


def forget_time_zones() -> None:
    """Keep django-celery-beat's models from loading all time zones, 2 MB, which are
    the choices of a form. Zones are read by name all the same. Before models load."""
    zoneinfo: Any = import_module("zoneinfo")
    available_timezones = zoneinfo.available_timezones
    zoneinfo.available_timezones = lambda: {"UTC"}
    try:
        with _spared("timezone_field"):
            import_module("timezone_field.backends.zoneinfo")
    finally:
        zoneinfo.available_timezones = available_timezones


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
