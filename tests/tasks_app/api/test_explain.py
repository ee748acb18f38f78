"""/runs/{id}/explain and /tasks/{id}/explain."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tasks_app import ledger
from tests.factories import backdate, claim, make_run, make_task, make_worker

pytestmark = pytest.mark.django_db


def test_a_waiting_run_tells_what_holds_it_back(reader: APIClient) -> None:
    make_worker("w-1", tags=["spot"])
    run = make_run(make_task(match="gpu"))
    body = reader.get(f"/api/v1/runs/{run.pk}/explain").json()
    assert (body["run"], body["status"], body["may_start"]) == (run.pk, "queued", False)
    failing = [check for check in body["checks"] if not check["passed"]]
    assert [check["name"] for check in failing] == ["workers"]
    assert body["summary"] == failing[0]["detail"]
    assert body["workers"] == [
        {
            "name": "w-1",
            "free_slots": 10,
            "refusal": "its tags do not fit: the run needs gpu",
        }
    ]
    (due,) = [check for check in body["checks"] if check["name"] == "due"]
    assert due["numbers"]["due_at"].endswith("Z")


def test_a_run_that_has_started_tells_where_it_is(reader: APIClient) -> None:
    run = make_run()
    claim(run, make_worker("w-1"))
    body = reader.get(f"/api/v1/runs/{run.pk}/explain/").json()
    assert body["status"] == "running"
    assert not body["may_start"]
    assert body["summary"].startswith("it has been running on w-1")


def test_a_fire_tells_what_became_of_it(reader: APIClient) -> None:
    task = backdate(make_task(interval_seconds=60), 61)
    assert task.next_fire_at
    at = task.next_fire_at.isoformat()
    (run_id,) = ledger.plan().run_ids
    body = reader.get(f"/api/v1/tasks/{task.name}/explain", {"at": at}).json()
    assert body["runs"] == [run_id]
    assert body["summary"].startswith(f"it has run {run_id}: ")


def test_what_is_asked_wrongly_is_refused(reader: APIClient) -> None:
    task = make_task()
    url = f"/api/v1/tasks/{task.pk}/explain"
    assert reader.get(url).status_code == 400
    assert reader.get(url, {"at": "yesterday"}).status_code == 400
    assert reader.get(url, {"at": "2026-01-01T00:00:00"}).status_code == 400
    assert reader.get("/api/v1/runs/0/explain").status_code == 404
    assert reader.get("/api/v1/tasks/none/explain?at=2026-01-01Z").status_code == 400
