"""Is it alive, can it serve, and which one is it: for probes, without a user."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe
from kombu import Connection

from workers_app.transports import profile

BROKER_TIMEOUT_SECONDS = 2


@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """The process answers. It asks nobody else, or an outage would restart it."""
    return _json({"status": "ok"})


@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """It can serve: 200, or 503 with what is missing."""
    checks: list[dict[str, Any]] = []
    for name, check in CHECKS.items():
        if name == "migrations" and not checks[0]["ok"]:
            continue  # without a database it would only wait as long again
        checks.append(_check(name, check))
    is_ready = all(check["ok"] for check in checks)
    return _json(
        {"status": "ok" if is_ready else "unavailable", "checks": checks},
        status=200 if is_ready else 503,
    )


@require_safe
def version(_request: HttpRequest) -> JsonResponse:
    return _json({"name": "gnomon", "version": version_number()})


@cache
def version_number() -> str:
    """Of the installed package, or of the source tree that this is."""
    try:
        return installed_version("gnomon")
    except PackageNotFoundError:
        project = (settings.BASE_DIR / "pyproject.toml").read_text()
        number: str = tomllib.loads(project)["project"]["version"]
        return number


class NotReady(Exception):
    """What is missing, in words that anybody may read."""


def _check(name: str, check: Callable[[], None]) -> dict[str, Any]:
    try:
        check()
    except NotReady as error:
        return {"name": name, "ok": False, "detail": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever fails, it is not ready
        # The class only: messages name hosts and users.
        return {"name": name, "ok": False, "detail": type(error).__name__}
    return {"name": name, "ok": True}


def _check_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@cache
def _check_migrations() -> None:
    """Kept once it has passed: it reads every migration's file."""
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if pending:
        raise NotReady(f"{len(pending)} migrations are not applied: manage.py migrate")


def _check_broker() -> None:
    options = {
        **profile(settings.BROKER_URL)["broker_transport_options"],
        "socket_connect_timeout": BROKER_TIMEOUT_SECONDS,
        "socket_timeout": BROKER_TIMEOUT_SECONDS,
        "retry_on_timeout": False,
    }
    with Connection(
        settings.BROKER_URL,
        connect_timeout=BROKER_TIMEOUT_SECONDS,
        transport_options=options,
    ) as broker:
        broker.ensure_connection(max_retries=1, timeout=BROKER_TIMEOUT_SECONDS)
        broker.default_channel  # noqa: B018 - Redis connects only now


CHECKS: dict[str, Callable[[], None]] = {
    "database": _check_database,
    "migrations": _check_migrations,
    "broker": _check_broker,
}


def _json(data: dict[str, Any], status: int = 200) -> JsonResponse:
    return JsonResponse(data, status=status, headers={"Cache-Control": "no-store"})
