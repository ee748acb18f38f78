"""/workers: the fleet, read only."""

from __future__ import annotations

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from tests.factories import make_worker
from workers_app.models import WorkerInfo

pytestmark = pytest.mark.django_db

URL = "/api/v1/workers"


def test_a_worker_is_found_by_its_name_and_by_its_id(reader: APIClient) -> None:
    worker = make_worker("worker-1@host")
    for reference in ("worker-1@host", worker.pk):
        body = reader.get(f"{URL}/{reference}/").json()
        assert body["name"] == "worker-1@host"
        assert body["status"] == "online"
        assert body["max_tasks"] == 10
        assert body["last_heartbeat"].endswith("Z")
    assert set(body) == {
        "id",
        "name",
        "status",
        "last_heartbeat",
        "current_tasks",
        "max_tasks",
        "queues",
        "tags",
        "version",
        "host",
        "started_at",
    }


@pytest.mark.parametrize("reference", ["none", "0", "9" * 19, "9" * 30, "%00"])
def test_an_unknown_worker_is_not_found(reader: APIClient, reference: str) -> None:
    assert reader.get(f"{URL}/{reference}").status_code == 404


def test_the_list_is_filtered_and_costs_the_same_for_any_number(
    admin: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        make_worker(f"worker-{number}")
    WorkerInfo.objects.filter(name="worker-3").update(status="offline")
    with django_assert_num_queries(2):
        assert admin.get(URL).json()["count"] == 5
    (offline,) = admin.get(URL, {"status": "offline"}).json()["results"]
    assert offline["name"] == "worker-3"
    assert admin.get(URL, {"status": "asleep"}).status_code == 400
    assert admin.get(URL, {"queue": "x"}).status_code == 400
