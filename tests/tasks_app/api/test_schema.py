"""The OpenAPI document is the API, and the committed copy is the document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from rest_framework.test import APIClient

from tests.tasks_app.api.test_policy import METHODS, ROUTES

OPERATIONS = {
    "alerts_list",
    "alerts_resolve",
    "auth_refresh",
    "auth_token",
    "breakers_close",
    "breakers_list",
    "calendars_create",
    "calendars_delete",
    "calendars_get",
    "calendars_list",
    "calendars_preview",
    "calendars_update",
    "me",
    "projects_get",
    "projects_list",
    "projects_update",
    "queues_delete",
    "queues_get",
    "queues_list",
    "queues_replace",
    "queues_update",
    "runs_cancel",
    "runs_events_list",
    "runs_explain",
    "runs_get",
    "runs_list",
    "runs_logs",
    "runs_logs_stream",
    "runs_logs_text",
    "runs_rerun",
    "schedules_preview",
    "stats_get",
    "tasks_backfill",
    "tasks_create",
    "tasks_delete",
    "tasks_explain",
    "tasks_get",
    "tasks_list",
    "tasks_next_fires",
    "tasks_pause",
    "tasks_replace",
    "tasks_resume",
    "tasks_runs_list",
    "tasks_trigger",
    "tasks_update",
    "tasks_versions_list",
    "workers_drain",
    "workers_get",
    "workers_list",
    "workers_undrain",
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("schema") / "openapi.json"
    call_command(
        "spectacular",
        "--validate",
        "--fail-on-warn",
        format="openapi-json",
        file=str(path),
    )
    return json.loads(path.read_text())


def operations(document: Any) -> list[Any]:
    return [
        operation for path in document["paths"].values() for operation in path.values()
    ]


def test_the_committed_document_is_this_one(tmp_path: Path) -> None:
    """If this fails: `manage.py spectacular --file openapi.yaml`, and read the diff."""
    path = tmp_path / "openapi.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", file=str(path))
    committed = settings.BASE_DIR / "openapi.yaml"
    assert path.read_text() == committed.read_text()


def test_operations_have_the_names_that_clients_know(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert {item["operationId"] for item in operations(document)} == OPERATIONS
    assert all(item["summary"] for item in operations(document))


def test_every_handler_is_in_the_document(document: Any) -> None:
    handlers = sum(
        hasattr(view, method)
        for name, _path, view in ROUTES
        for method in METHODS
        if name not in {"schema", "docs"}
    )
    assert len(operations(document)) == handlers


def test_errors_are_described_as_problems(document: Any) -> None:
    for operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                (kind,) = response["content"]
                assert kind == "application/problem+json"
        assert {"400", "503"} <= set(operation["responses"])


def test_request_bodies_are_closed(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            name = content["schema"]["$ref"].rpartition("/")[2]
            assert schemas[name]["additionalProperties"] is False


@pytest.mark.django_db
def test_the_document_is_served(stranger: APIClient) -> None:
    response = stranger.get("/api/v1/schema")
    assert response.status_code == 200
    assert b"openapi: 3.1.0" in response.content
    response = stranger.get("/api/v1/schema/?format=json")
    assert response.json()["openapi"] == "3.1.0"
    assert stranger.get("/api/v1/schema?x=1").status_code == 400


@pytest.mark.django_db
def test_the_docs_load_nothing_from_elsewhere(stranger: APIClient) -> None:
    response = stranger.get("/api/v1/docs", headers={"Accept": "text/html"})
    page = response.content.decode()
    assert response.status_code == 200
    assert "swagger-ui" in page
    assert "/static/drf_spectacular_sidecar/" in page
    assert "//cdn" not in page
    assert "https://" not in page
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]


@pytest.mark.django_db
def test_a_browser_is_sent_to_sign_in(anonymous: APIClient) -> None:
    response = anonymous.get("/api/v1/docs", headers={"Accept": "text/html"})
    assert response.status_code == 302
    assert response["Location"] == "/admin/login/?next=/api/v1/docs"
    assert anonymous.get("/api/v1/docs").status_code == 401
