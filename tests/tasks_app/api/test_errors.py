"""Errors are problems (RFC 9457), with a request id, and never a 500 for a bad path."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from rest_framework.test import APIClient

from tasks_app.api import errors
from tasks_app.api.v1 import task_views
from tasks_app.errors import (
    Conflict,
    DomainError,
    HistoryAway,
    IdempotencyKeyReused,
    InvalidInput,
    TooManyQueuedRuns,
    VersionMismatch,
)

pytestmark = pytest.mark.django_db

MEMBERS = {"type", "title", "status", "code", "detail", "instance", "request_id"}


def _subclasses(kind: type[DomainError]) -> list[type[DomainError]]:
    return [kind, *(x for sub in kind.__subclasses__() for x in _subclasses(sub))]


@pytest.mark.parametrize("kind", _subclasses(DomainError)[1:])
def test_every_domain_error_has_a_status(kind: type[DomainError]) -> None:
    error = InvalidInput([]) if kind is InvalidInput else kind()
    expected = {
        InvalidInput: 400,
        VersionMismatch: 412,
        IdempotencyKeyReused: 422,
        TooManyQueuedRuns: 429,
        HistoryAway: 503,
    }
    assert errors.status_of(error) == expected.get(kind, 409)
    assert issubclass(kind, Conflict) or kind in expected


@pytest.mark.parametrize(
    "path",
    [
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v1/tasks/a/b/c",
        "/api/v1/runs//",
        "/api/v1/runs/%00",
        "/api/v1/tasks/%0A",
        "/api/v1/tasks/%ff",
        "/api/v1/tasks/%F0%9F%98%80",
        "/api/v2/tasks",
    ],
)
def test_a_path_that_leads_nowhere_is_a_problem(reader: APIClient, path: str) -> None:
    response = reader.get(path)
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert set(body) == MEMBERS
    assert body["code"] == "not_found"
    assert response["X-Request-Id"] == body["request_id"]


def test_pages_outside_the_api_keep_their_own_errors(reader: APIClient) -> None:
    response = reader.get("/nothing")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_a_method_that_is_not_there(admin: APIClient) -> None:
    response = admin.delete("/api/v1/tasks")
    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert "POST" in response["Allow"]
    response = admin.post(
        "/api/v1/tasks/x", {}, headers={"X-HTTP-Method-Override": "DELETE"}
    )
    assert response.status_code == 405


def test_options_tells_the_methods(reader: APIClient) -> None:
    response = reader.options("/api/v1/tasks")
    assert response.status_code == 204
    assert response["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_head_is_get_without_the_body(reader: APIClient) -> None:
    response = reader.head("/api/v1/tasks")
    assert response.status_code == 200
    assert response.content == b""


@pytest.mark.parametrize(
    "accept", ["text/html", "application/problem+json", "x" * 9000]
)
def test_the_answer_is_json_whatever_is_accepted(
    reader: APIClient, accept: str
) -> None:
    response = reader.get("/api/v1/tasks", headers={"Accept": accept})
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("abc-123.X_y:z", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a b", False),
        ("<script>", False),
        ("", False),
    ],
)
def test_a_sane_request_id_is_echoed(
    reader: APIClient, given: str, *, is_kept: bool
) -> None:
    for path in ("/api/v1/me", "/api/v1/nothing"):
        response = reader.get(path, headers={"X-Request-Id": given})
        assert (response["X-Request-Id"] == given) is is_kept
        assert response["X-Request-Id"]


def test_answers_are_not_kept_framed_or_sniffed(reader: APIClient) -> None:
    for path in ("/api/v1/tasks", "/api/v1/tasks/none"):
        response = reader.get(path)
        assert response["Cache-Control"] == "no-store"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_without_its_database_the_api_says_come_back(
    admin: APIClient, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error("connection to server at 10.1.2.3 failed: password=secret")

    monkeypatch.setattr(task_views, "find_task", fail)
    admin.raise_request_exception = False
    response = admin.get("/api/v1/tasks/x")
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert response.json()["code"] == "database_unavailable"
    assert b"secret" not in response.content


def test_a_mistake_of_ours_tells_nothing(
    admin: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("SELECT secret FROM /etc/passwd")

    monkeypatch.setattr(task_views, "find_task", fail)
    admin.raise_request_exception = False
    response = admin.get("/api/v1/tasks/x")
    assert response.status_code == 500
    assert response["Content-Type"] == "application/problem+json"
    assert set(response.json()) == MEMBERS
    assert b"SELECT" not in response.content


def test_unknown_fields_come_with_a_hint(admin: APIClient) -> None:
    response = admin.post("/api/v1/tasks/x/runs", {"parms": {}})
    assert "params" in response.json()["errors"][0]["detail"]
