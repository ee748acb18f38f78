"""Running a task now that has as many runs as it may have."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tasks_app.models import RunEvent, TaskRun
from tests.factories import end, make_run, make_task, make_worker

pytestmark = pytest.mark.django_db

URL = "/api/v1/tasks/x/runs"


def test_a_run_too_many_is_refused_and_leaves_no_row(admin: APIClient) -> None:
    task = make_task(name="x", max_queued=2)
    for _ in range(2):
        assert admin.post(URL).status_code == 202
    events = RunEvent.objects.count()

    response = admin.post(URL, headers={"Idempotency-Key": "k"})

    assert response.status_code == 429
    problem = response.json()
    assert problem["code"] == "too_many_queued_runs"
    assert "2 runs of the task wait already" in problem["detail"]
    assert "raise max_queued" in problem["detail"]
    assert (TaskRun.objects.count(), RunEvent.objects.count()) == (2, events)
    end(TaskRun.objects.filter(task=task).earliest("pk"))
    assert admin.post(URL, headers={"Idempotency-Key": "k"}).status_code == 202


def test_a_rerun_too_many_is_refused(admin: APIClient) -> None:
    task = make_task(name="x", max_queued=1)
    run = end(make_run(task))
    make_run(task)
    assert admin.post(f"/api/v1/runs/{run.pk}/rerun").status_code == 429


def test_a_run_that_the_policy_skips_is_answered_with_its_reason(
    admin: APIClient,
) -> None:
    make_task(name="x", overlap="skip")
    first = admin.post(URL).json()
    response = admin.post(URL)
    assert response.status_code == 202
    run = response.json()
    assert run["status"] == "skipped"
    assert run["reason"] == f"overlap: run {first['id']} has not ended (policy skip)"


def test_a_broadcast_is_answered_with_its_first_run(admin: APIClient) -> None:
    make_task(name="x", placement="broadcast")
    for name in ("a", "b"):
        make_worker(name)
    response = admin.post(URL)
    assert response.status_code == 202
    first, second = TaskRun.objects.order_by("pk")
    assert response.json()["id"] == first.pk
    assert (first.lane, second.lane) == ("worker:a", "worker:b")
