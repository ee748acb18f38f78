"""/alerts and /breakers: what operators look after."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from tasks_app import ledger
from tasks_app.models import Alert, Breaker, Task, TaskRun
from tests.factories import end, make_run, make_task

pytestmark = pytest.mark.django_db

ALERTS = "/api/v1/alerts"
BREAKERS = "/api/v1/breakers"
TARGET = "shop.example:443"


def raised(kind: str = "poison", task: Task | None = None) -> Alert:
    task = task or make_task()
    ledger.alert_raise(kind, f"task:{task.pk}", f"{task.name}: why", task_id=task.pk)
    return Alert.objects.latest("pk")


def ids(api: APIClient, **query: str) -> list[int]:
    response = api.get(ALERTS, query)
    assert response.status_code == 200, response.content
    return [alert["id"] for alert in response.json()["results"]]


def test_the_alerts_that_stand_are_listed_newest_first(reader: APIClient) -> None:
    task = make_task(name="x")
    first, second = raised(task=task), raised("no_worker", task)
    other = raised()
    ledger.alert_resolve("no_worker", [f"task:{task.pk}"])
    assert ids(reader) == [other.pk, first.pk]
    assert ids(reader, resolved="false") == [other.pk, first.pk]
    assert ids(reader, resolved="true") == [second.pk]
    assert ids(reader, kind="no_worker") == []
    assert ids(reader, task=str(task.pk)) == [first.pk]
    assert reader.get(ALERTS, {"resolved": "maybe"}).status_code == 400
    shown = reader.get(ALERTS).json()["results"][1]
    assert shown["task"] == {"id": task.pk, "name": "x"}
    assert shown["message"] == "x: why"
    assert shown["resolved_at"] is None


def test_an_alert_is_resolved_once(admin: APIClient) -> None:
    alert = raised()
    first = admin.post(f"{ALERTS}/{alert.pk}/resolve")
    assert first.status_code == 200
    assert first.json()["resolved_at"]
    assert admin.post(f"{ALERTS}/{alert.pk}/resolve").json() == first.json()
    assert ids(admin) == []
    assert admin.post(f"{ALERTS}/0/resolve").status_code == 404
    assert admin.post(f"{ALERTS}/x/resolve").status_code == 404


def test_a_reader_resolves_nothing(reader: APIClient) -> None:
    assert reader.post(f"{ALERTS}/{raised().pk}/resolve").status_code == 403


def test_the_list_costs_the_same_for_any_number(
    reader: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(8):
        raised()
    # two for the user's permissions, then count, alerts
    with django_assert_num_queries(4):
        assert reader.get(ALERTS).json()["count"] == 8


def broken(settings: Any) -> Task:
    """A task whose target's breaker has opened."""
    settings.BREAKER_FAILURES = 1
    task = make_task(executor="http", command=f"https://{TARGET}/")
    end(make_run(task), "failed", reason="connection_failed")
    return task


def test_an_open_breaker_is_told_and_can_be_closed(
    admin: APIClient, settings: Any
) -> None:
    task = broken(settings)
    run = make_run(task)
    assert run.admission == "held"
    (breaker,) = admin.get(BREAKERS).json()["results"]
    assert breaker["opened_at"]
    assert (breaker["target"], breaker["state"], breaker["failures"]) == (
        TARGET,
        "open",
        1,
    )
    assert Alert.objects.open().get().subject == TARGET

    for _ in range(2):
        closed = admin.post(f"{BREAKERS}/{TARGET}/close")
        assert closed.status_code == 200
        assert (closed.json()["state"], closed.json()["failures"]) == ("closed", 0)

    run.refresh_from_db()
    assert run.admission == "admitted"
    assert not Alert.objects.open().exists()
    assert TaskRun.objects.filter(admission="held").count() == 0


def test_a_breaker_that_nobody_knows_is_not_found(admin: APIClient) -> None:
    assert admin.post(f"{BREAKERS}/{TARGET}/close").status_code == 404
    assert not Breaker.objects.exists()


def test_a_reader_closes_nothing(reader: APIClient) -> None:
    assert reader.post(f"{BREAKERS}/{TARGET}/close").status_code == 403
