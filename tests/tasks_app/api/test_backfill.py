"""/tasks/{task}/backfill: make up for nominal times of the past."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from tasks_app import ledger
from tasks_app.models import TaskRun
from tests.factories import make_task
from tests.tasks_app.api.conftest import client_of, make_user

pytestmark = pytest.mark.django_db

URL = "/api/v1/tasks/x/backfill"
DAY = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00+00:00"}


@pytest.fixture(autouse=True)
def task(db: None) -> None:
    make_task(name="x", cron="0 * * * *")


def test_without_more_nothing_is_made_and_the_answer_says_what_would_be(
    admin: APIClient,
) -> None:
    response = admin.post(URL, DAY)
    assert response.status_code == 200, response.content
    assert response.json() == {
        "dry_run": True,
        "count": 24,
        "first": [f"2026-01-01T0{hour}:00:00Z" for hour in range(5)],
        "last": [f"2026-01-01T{hour}:00:00Z" for hour in range(19, 24)],
        "already_run": 0,
        "in_blackout": 0,
        "run_ids": [],
    }
    assert not TaskRun.objects.exists()


def test_the_runs_are_made_once(admin: APIClient) -> None:
    response = admin.post(URL, {**DAY, "dry_run": False})
    made = response.json()
    assert response.status_code == 202
    assert (made["count"], len(made["run_ids"])) == (24, 24)
    run = admin.get(f"/api/v1/runs/{made['run_ids'][0]}").json()
    assert run["scheduled_for"] == "2026-01-01T00:00:00Z"
    assert (run["trigger"], run["triggered_by"]) == ("backfill", "user:admin")
    again = admin.post(URL, {**DAY, "dry_run": False}).json()
    assert (again["count"], again["already_run"]) == (0, 24)


def test_a_repeated_request_gives_the_first_answer(admin: APIClient) -> None:
    def post() -> Any:
        key = {"Idempotency-Key": "k"}
        return admin.post(URL, {**DAY, "dry_run": False}, headers=key)

    first, again = post(), post()
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"
    assert TaskRun.objects.count() == 24


def test_the_newest_may_go_first(admin: APIClient) -> None:
    body = admin.post(URL, {**DAY, "order": "newest_first"}).json()
    assert body["first"][0] == "2026-01-01T23:00:00Z"


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({"from": None}, "/from", "null"),
        ({"to": "2026-01-02T00:00:00"}, "/to", "naive_datetime"),
        ({"to": "2025-01-01T00:00:00Z"}, "/to", "end_before_start"),
        ({"to": "2190-01-01T00:00:00Z"}, "/to", "in_the_future"),
        ({"from": "2020-01-01T00:00:00Z"}, "/to", "too_many_fires"),
        ({"dry_run": "no"}, "/dry_run", "invalid"),
        ({"order": "random"}, "/order", "invalid_choice"),
        ({"until": 1}, "/until", "unknown_field"),
    ],
)
def test_a_wrong_field_is_named(
    admin: APIClient, values: dict[str, Any], pointer: str, code: str
) -> None:
    response = admin.post(URL, {**DAY, **values})
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["pointer"], error["code"]) == (pointer, code)


def test_more_than_may_wait_is_refused_as_a_whole(admin: APIClient) -> None:
    admin.patch("/api/v1/tasks/x", {"max_queued": 3})
    response = admin.post(URL, {**DAY, "dry_run": False})
    assert response.status_code == 429
    assert response.json()["code"] == "too_many_queued_runs"
    assert not TaskRun.objects.exists()


def test_a_task_without_a_schedule_has_no_nominal_times(admin: APIClient) -> None:
    make_task(name="y")
    response = admin.post("/api/v1/tasks/y/backfill", DAY)
    assert response.status_code == 409
    assert response.json()["code"] == "no_schedule"


def test_whoever_may_run_a_task_may_make_up_for_it(reader: APIClient) -> None:
    assert reader.post(URL, DAY).status_code == 403
    operator = client_of(make_user("operator", "trigger_task"))
    now = ledger.database_now()
    span = {"from": now - timedelta(hours=2), "to": now}
    assert operator.post(URL, span).status_code == 200
