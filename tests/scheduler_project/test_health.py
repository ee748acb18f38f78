"""/healthz, /readyz and /version: for probes, without a user."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.db import OperationalError
from django.db.migrations.executor import MigrationExecutor
from django.test import Client, RequestFactory
from kombu.exceptions import OperationalError as BrokerError

from scheduler_project import health


def test_healthz_needs_no_database() -> None:
    """Without the mark, a query would fail this test."""
    response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response["Cache-Control"] == "no-store"


def test_version_is_that_of_the_project() -> None:
    response = Client().get("/version")
    assert response.json() == {"name": "gnomon", "version": "0.1.0"}


def test_probes_only_read() -> None:
    for path in ("/healthz", "/readyz", "/version"):
        assert Client().post(path).status_code == 405


def ready() -> tuple[int, Any]:
    response = health.readyz(RequestFactory().get("/readyz"))
    return response.status_code, json.loads(response.content)


@pytest.mark.django_db
def test_readyz_asks_database_migrations_and_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(health.CHECKS, "broker", lambda: None)
    status, body = ready()
    assert status == 200
    assert body == {
        "status": "ok",
        "checks": [
            {"name": "database", "ok": True},
            {"name": "migrations", "ok": True},
            {"name": "broker", "ok": True},
        ],
    }


@pytest.mark.django_db
def test_a_database_without_its_migrations_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    health._check_migrations.cache_clear()
    monkeypatch.setattr(
        MigrationExecutor, "migration_plan", lambda *_: [("tasks_app", "0009")]
    )
    assert health._check("migrations", health._check_migrations) == {
        "name": "migrations",
        "ok": False,
        "detail": "1 migrations are not applied: manage.py migrate",
    }


@pytest.mark.django_db
def test_readyz_lists_what_is_missing_and_names_no_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(error: Exception) -> Any:
        def check() -> None:
            raise error

        return check

    monkeypatch.setattr(
        health,
        "CHECKS",
        {
            "database": fail(OperationalError("host db-7 refused")),
            "migrations": fail(AssertionError("asked without a database")),
            "broker": fail(BrokerError("redis://:secret@host")),
        },
    )
    status, body = ready()
    assert status == 503
    assert body["status"] == "unavailable"
    assert [check["detail"] for check in body["checks"]] == [
        "OperationalError",
        "OperationalError",
    ]


def test_a_broker_that_is_there(broker_url: str, settings: Any) -> None:
    settings.BROKER_URL = broker_url
    health._check_broker()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_a_broker_that_is_not_there(url: str, settings: Any) -> None:
    settings.BROKER_URL = url
    began = time.monotonic()
    check = health._check("broker", health._check_broker)
    assert check["ok"] is False
    assert "127.0.0.1" not in check["detail"]
    assert time.monotonic() - began < 6
