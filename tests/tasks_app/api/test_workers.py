"""/workers: the fleet, and its draining."""

from __future__ import annotations

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from tests.factories import ask, claim, make_run, make_worker
from tests.tasks_app.api.conftest import client_of, make_user
from workers_app.models import WorkerInfo
from workers_app.registration import worker_offline

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
        "is_draining",
        "runs_held",
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
    with django_assert_num_queries(3):
        assert admin.get(URL).json()["count"] == 5
    (offline,) = admin.get(URL, {"status": "offline"}).json()["results"]
    assert offline["name"] == "worker-3"
    assert admin.get(URL, {"status": "asleep"}).status_code == 400
    assert admin.get(URL, {"queue": "x"}).status_code == 400


class TestDrain:
    def test_it_claims_nothing_more_and_tells_what_is_left(
        self, admin: APIClient
    ) -> None:
        worker = make_worker("w-1")
        claim(make_run(), worker)
        make_run()
        body = admin.post(f"{URL}/w-1/drain").json()
        assert (body["status"], body["is_draining"], body["runs_held"]) == (
            "draining",
            True,
            1,
        )
        assert ask(5, worker) == []
        assert admin.post(f"{URL}/w-1/drain").status_code == 200
        body = admin.post(f"{URL}/w-1/undrain").json()
        assert (body["status"], body["is_draining"]) == ("online", False)
        assert len(ask(5, worker)) == 1

    def test_draining_workers_are_a_status_of_their_own(self, admin: APIClient) -> None:
        for name in ("a", "b", "c"):
            make_worker(name)
        admin.post(f"{URL}/b/drain")
        found = {
            status: [
                worker["name"]
                for worker in admin.get(URL, {"status": status}).json()["results"]
            ]
            for status in ("draining", "online", "busy", "offline")
        }
        assert found == {
            "draining": ["b"],
            "online": ["a", "c"],
            "busy": [],
            "offline": [],
        }

    def test_an_offline_worker_has_nothing_to_drain(self, admin: APIClient) -> None:
        worker_offline(make_worker("gone").pk)
        for verb in ("drain", "undrain"):
            answer = admin.post(f"{URL}/gone/{verb}")
            assert answer.status_code == 409
            assert answer.json()["code"] == "worker_offline"

    def test_it_takes_no_body_and_a_permission(self, admin: APIClient) -> None:
        make_worker("w-1")
        answer = admin.post(f"{URL}/w-1/drain", {"is_draining": True})
        assert answer.status_code == 400
        may_read = client_of(make_user("r", "view_workerinfo"))
        answer = may_read.post(f"{URL}/w-1/drain")
        assert answer.status_code == 403
        assert answer.json()["permission"] == "workers_app.change_workerinfo"
        assert admin.post(f"{URL}/none/drain").status_code == 404
