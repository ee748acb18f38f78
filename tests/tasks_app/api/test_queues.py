"""/queues: what waits, and limits."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from tasks_app.models import Queue, TaskRun
from tests.factories import ask, claim, make_run, make_task, make_worker, shift

pytestmark = pytest.mark.django_db

URL = "/api/v1/queues"


def queues(api: APIClient) -> dict[str, dict[str, Any]]:
    return {queue["name"]: queue for queue in api.get(URL).json()["results"]}


def test_a_queue_tells_its_depth_its_oldest_wait_and_who_serves_it(
    reader: APIClient,
) -> None:
    worker = make_worker(queues=["reports", "default"])
    task = make_task(queue="reports")
    claim(make_run(task), worker)
    waiting = make_run(task)
    shift(TaskRun, waiting.pk, 90, "due_at")
    make_run(task)

    reports = queues(reader)["reports"]

    assert 90 <= reports.pop("oldest_wait_seconds") < 120
    assert reports == {
        "name": "reports",
        "description": "",
        "max_concurrency": None,
        "queued": 2,
        "running": 1,
        "workers_online": 1,
    }


def test_a_queue_is_listed_for_a_task_a_worker_or_a_limit(reader: APIClient) -> None:
    make_task(queue="of-a-task")
    make_worker(queues=["of-a-worker"])
    Queue.objects.create(name="limited", max_concurrency=3)
    found = queues(reader)
    assert list(found) == ["limited", "of-a-task", "of-a-worker"]
    assert found["limited"]["max_concurrency"] == 3
    assert found["of-a-task"]["oldest_wait_seconds"] is None
    assert [queue["workers_online"] for queue in found.values()] == [0, 0, 1]
    assert reader.get(f"{URL}/limited").json() == found["limited"]
    assert reader.get(f"{URL}/unheard-of").status_code == 404


def test_a_limit_holds_over_all_workers(admin: APIClient) -> None:
    response = admin.put(f"{URL}/default", {"max_concurrency": 1})
    assert response.status_code == 200
    assert response.json()["max_concurrency"] == 1
    for _ in range(3):
        make_run()
    assert len(ask(3)) == 1
    assert ask(3) == []
    assert admin.delete(f"{URL}/default").status_code == 204
    assert len(ask(3)) == 2
    assert admin.delete(f"{URL}/default").status_code == 404


def test_patch_merges_and_put_replaces(admin: APIClient) -> None:
    admin.put(f"{URL}/x", {"max_concurrency": 5, "description": "d"})
    changed = admin.patch(f"{URL}/x", {"max_concurrency": 6}).json()
    assert (changed["max_concurrency"], changed["description"]) == (6, "d")
    changed = admin.put(f"{URL}/x", {"description": "e"}).json()
    assert (changed["max_concurrency"], changed["description"]) == (None, "e")


@pytest.mark.parametrize(
    ("queue", "values", "pointer"),
    [
        ("x", {"max_concurrency": 0}, "/max_concurrency"),
        ("x", {"max_concurrency": "5"}, "/max_concurrency"),
        ("x", {"limit": 5}, "/limit"),
        ("x" * 101, {"max_concurrency": 5}, "/name"),
    ],
)
def test_a_wrong_field_is_named(
    admin: APIClient, queue: str, values: dict[str, Any], pointer: str
) -> None:
    response = admin.put(f"{URL}/{queue}", values)
    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


def test_a_reader_changes_nothing(reader: APIClient) -> None:
    Queue.objects.create(name="x")
    assert reader.put(f"{URL}/x", {}).status_code == 403
    assert reader.patch(f"{URL}/x", {}).status_code == 403
    assert reader.delete(f"{URL}/x").status_code == 403


def test_the_list_costs_the_same_for_any_number(
    reader: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(8):
        make_run(make_task(queue=f"q{number}"))
        make_worker(queues=[f"q{number}"])
    # two for the user's permissions, then clock, limits, runs, workers, tasks
    with django_assert_num_queries(7):
        assert reader.get(URL).json()["count"] == 8
