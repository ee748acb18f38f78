"""/runs: trigger, list, read, wait, cancel, run again."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from tasks_app import ledger
from tasks_app.ledger import Doorbell
from tasks_app.models import Project, TaskRun
from tests.factories import claim, end, make_run, make_task, make_worker

pytestmark = pytest.mark.django_db

URL = "/api/v1/runs"


def ids(response: Any) -> list[int]:
    assert response.status_code == 200, response.content
    return [run["id"] for run in response.json()["results"]]


def test_a_trigger_queues_a_run_and_tells_where_it_is(
    admin: APIClient, rung: list[Doorbell], django_capture_on_commit_callbacks: Any
) -> None:
    task = make_task(name="backup-db")
    with django_capture_on_commit_callbacks(execute=True):
        response = admin.post(
            "/api/v1/tasks/backup-db/runs",
            {"params": {"DAY": "monday"}, "reason": "before the migration"},
        )
    run = response.json()
    assert response.status_code == 202, run
    assert response["Location"] == f"http://testserver{URL}/{run['id']}"
    assert run["task"] == {"id": task.pk, "name": "backup-db"}
    assert run["project"] == "default"
    assert run["status"] == "queued"
    assert run["trigger"] == "api"
    assert run["triggered_by"] == "user:admin"
    assert run["params"] == {"DAY": "monday"}
    assert run["trigger_reason"] == "before the migration"
    assert run["attempt"] == 0
    assert run["max_attempts"] == 1
    assert run["version"] == 1
    assert run["worker"] is None
    assert run["queued_seconds"] is None
    assert run["links"]["self"] == response["Location"]
    assert run["links"]["logs_text"] == response["Location"] + "/logs.txt"
    assert rung == [Doorbell("default", "")]


def test_a_trigger_reads_the_task_once_and_its_run_never(
    admin: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """Whatever hangs on the task: its schedule, its calendars, its parents."""
    make_task(make_task(), name="x")
    url = "/api/v1/tasks/x/runs"
    admin.post(url)  # which reads the days of the unfinished runs
    run_writes = 1 if connection.vendor == "postgresql" else 2  # with its event
    savepoint = 2
    with django_assert_num_queries(2 + run_writes + savepoint) as captured:
        assert admin.post(url).status_code == 202
    read = [query["sql"] for query in captured.captured_queries]
    assert not any('FROM "tasks_app_taskrun"' in sql for sql in read)


def test_a_trigger_answers_as_the_run_is_read(admin: APIClient) -> None:
    make_task(name="x", overlap="skip", max_attempts=3, delivery="at_least_once")
    for status in ("queued", "skipped"):
        given = {"params": {"DAY": "monday", "n": 1.5}, "reason": "by hand"}
        born = admin.post("/api/v1/tasks/x/runs", given).json()
        assert born["status"] == status
        assert born == admin.get(f"{URL}/{born['id']}").json()


def test_a_trigger_needs_no_body(admin: APIClient) -> None:
    make_task(name="x")
    assert admin.post("/api/v1/tasks/x/runs/").status_code == 202
    assert admin.post("/api/v1/tasks/x/runs/", {}).status_code == 202


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"parms": {}}, "/parms", "unknown_field"),
        ({"params": []}, "/params", "not_a_dict"),
        ({"params": {"1X": "a"}}, "/params/1X", "bad_name"),
        ({"params": {"a/b~": "a"}}, "/params/a~1b~0", "bad_name"),
        ({"params": {"A": "x" * 131_072}}, "/params/A", "too_long"),
        ({"reason": "x" * 501}, "/reason", "max_length"),
        ({"reason": 5}, "/reason", "not_a_string"),
        ({"status": "succeeded"}, "/status", "unknown_field"),
    ],
)
def test_a_trigger_refuses(
    admin: APIClient, body: Any, pointer: str, code: str
) -> None:
    make_task(name="x")
    response = admin.post("/api/v1/tasks/x/runs", body)
    assert response.status_code == 400
    errors = response.json()["errors"]
    assert [(error["pointer"], error["code"]) for error in errors] == [(pointer, code)]
    assert TaskRun.objects.count() == 0


def test_a_finished_run_tells_how_it_went(reader: APIClient) -> None:
    run = make_run(make_task())
    worker = make_worker("worker-x")
    claimed = claim(run, worker)
    ledger.finish(
        [
            ledger.Finish(
                claimed.run_id,
                claimed.attempt,
                "failed",
                exit_code=137,
                result={"a": [1]},
                error="killed",
                reason="exit_code",
            )
        ]
    )
    body = reader.get(f"{URL}/{run.pk}").json()
    assert body["status"] == "failed"
    assert body["worker"] == {"id": worker.pk, "name": "worker-x"}
    assert body["worker_id"] == worker.pk
    assert body["exit_code"] == 137
    assert body["result"] == {"a": [1]}
    assert body["error"] == "killed"
    assert body["reason"] == "exit_code"
    assert body["attempt"] == 1
    assert body["duration_seconds"] >= 0
    assert body["queued_seconds"] >= 0
    assert body["completed_at"].endswith("Z")


def test_a_run_outlives_its_workers_row(reader: APIClient) -> None:
    run = end(make_run())
    worker = make_worker("other")
    TaskRun.objects.filter(pk=run.pk).update(worker=worker.pk + 1000)
    for body in (
        reader.get(f"{URL}/{run.pk}").json(),
        reader.get(URL).json()["results"][0],
    ):
        assert body["worker"] is None
        assert body["worker_id"] == worker.pk + 1000


@pytest.mark.parametrize("reference", ["0", "99", str(2**63), "9" * 40, "x", "-1", "٣"])
@pytest.mark.parametrize("below", ["", "/events", "/logs", "/logs.txt", "/logs/stream"])
def test_an_unknown_run_is_not_found(
    reader: APIClient, reference: str, below: str
) -> None:
    response = reader.get(f"{URL}/{reference}{below}")
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"


def test_the_list_goes_by_cursor_and_counts_nothing(
    reader: APIClient, django_assert_max_num_queries: Any
) -> None:
    task = make_task()
    made = [make_run(task).pk for _ in range(5)][::-1]
    first = reader.get(URL, {"limit": 2})
    assert ids(first) == made[:2]
    assert first.json().keys() == {
        "results",
        "next",
        "previous",
        "searched_to",
        "history_unreachable",
    }
    assert first.json()["previous"] is None
    second = reader.get(first.json()["next"])
    assert ids(second) == made[2:4]
    make_run(task)  # moves nobody's page
    last = reader.get(second.json()["next"])
    assert ids(last) == made[4:]
    assert last.json()["next"] is None
    back = reader.get(last.json()["previous"])
    assert ids(back) == made[2:4]
    back = reader.get(back.json()["previous"])
    assert ids(back) == made[:2]
    assert ids(reader.get(back.json()["next"])) == made[2:4]
    assert back["Link"].count("rel=") == 2


def test_the_list_costs_the_same_for_any_number_of_runs(
    admin: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(6):
        end(make_run(make_task()))
    with django_assert_num_queries(2):
        assert len(ids(admin.get(URL))) == 6


@pytest.fixture
def runs() -> dict[str, TaskRun]:
    other = Project.objects.create(name="other")
    parent = make_task(name="parent")
    make_task(parent, name="child")
    made = {
        "parent": end(make_run(parent)),
        "elsewhere": make_run(make_task(name="elsewhere", project=other, queue="slow")),
        "failed": end(make_run(make_task(name="failing")), "failed", exit_code=1),
    }
    made["child"] = TaskRun.objects.get(task__name="child")
    return made


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("task=parent", {"parent"}),
        ("task=none", set()),
        ("task=99999999999999999999", set()),
        ("project=other", {"elsewhere"}),
        ("status=failed", {"failed"}),
        ("status=failed&status=succeeded", {"failed", "parent"}),
        ("trigger=dependency", {"child"}),
        ("queue=slow", {"elsewhere"}),
        ("worker=none", set()),
        ("started_after=2020-01-01T00:00:00Z", {"parent", "failed"}),
        ("started_after=2020-01-01T00:00:00+00:00", {"parent", "failed"}),
        ("started_before=2020-01-01T00:00:00Z", set()),
        ("cursor=b1", set()),
    ],
)
def test_the_list_is_filtered(
    reader: APIClient, runs: dict[str, TaskRun], query: str, expected: set[str]
) -> None:
    if query == "cursor=b1":
        query = f"cursor=b{runs['parent'].pk}"
    assert set(ids(reader.get(f"{URL}?{query}"))) == {
        runs[name].pk for name in expected
    }


def test_the_list_is_filtered_by_what_was_made(
    reader: APIClient, runs: dict[str, TaskRun]
) -> None:
    parent = runs["parent"]
    assert ids(reader.get(f"{URL}?task={parent.task_id}")) == [parent.pk]
    assert ids(reader.get(f"{URL}?root={parent.pk}")) == [runs["child"].pk, parent.pk]
    assert parent.worker is not None
    assert ids(reader.get(f"{URL}?worker={parent.worker.name}")) == [parent.pk]
    assert ids(reader.get("/api/v1/tasks/parent/runs")) == [parent.pk]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=1e2", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=b99999999999999999999", "cursor"),
        ("page=2", "page"),
        ("count=estimate", "count"),
        ("status=done", "status"),
        ("status=failed&status=done", "status"),
        ("trigger=magic", "trigger"),
        ("root=x", "root"),
        ("root=99999999999999999999", "root"),
        ("root=1.5", "root"),
        ("root=NaN", "root"),
        ("started_after=9999-99-99", "started_after"),
        ("started_before=0001-01-01T00:00:00%2B14:00", "started_before"),
        ("worker=%00", "worker"),
        ("task__project__name=x", "task__project__name"),
    ],
)
def test_the_list_refuses_a_query(
    reader: APIClient, query: str, parameter: str
) -> None:
    response = reader.get(f"{URL}?{query}")
    assert response.status_code == 400, response.content
    assert {error["parameter"] for error in response.json()["errors"]} == {parameter}


def test_events_tell_what_happened(reader: APIClient) -> None:
    run = end(make_run())
    body = reader.get(f"{URL}/{run.pk}/events").json()
    assert [event["kind"] for event in body["results"]] == [
        "created",
        "started",
        "finished",
    ]
    assert body["results"][0]["actor"] == "user:test"
    assert body["results"][-1]["status"] == "succeeded"


def test_cancel_is_immediate_for_a_queued_run(admin: APIClient) -> None:
    run = make_run()
    response = admin.post(f"{URL}/{run.pk}/cancel")
    assert response.status_code == 200
    assert response.json() == {
        "status": "cancelled",
        "cancelled": [run.pk],
        "cancel_requested": [],
    }
    response = admin.post(f"{URL}/{run.pk}/cancel")
    assert response.status_code == 409
    assert response.json()["code"] == "run_already_finished"


def test_cancel_of_a_running_run_is_a_request(admin: APIClient) -> None:
    run = make_run()
    claim(run)
    for _ in range(2):
        response = admin.post(f"{URL}/{run.pk}/cancel")
        assert response.status_code == 202
        assert response.json() == {
            "status": "cancel_requested",
            "cancelled": [],
            "cancel_requested": [run.pk],
        }
    assert admin.get(f"{URL}/{run.pk}").json()["cancel_requested_at"]


def test_a_finished_run_can_be_run_again(admin: APIClient) -> None:
    run = make_run(params={"A": "1"})
    response = admin.post(f"{URL}/{run.pk}/rerun")
    assert response.status_code == 409
    assert response.json()["code"] == "run_not_finished"
    end(run)
    response = admin.post(f"{URL}/{run.pk}/rerun")
    again = response.json()
    assert response.status_code == 202, again
    assert response["Location"].endswith(f"{URL}/{again['id']}")
    assert again["trigger"] == "rerun"
    assert again["rerun_of"] == run.pk
    assert again["params"] == {"A": "1"}


def test_a_workflow_is_run_again_from_what_failed(admin: APIClient) -> None:
    parent = make_task()
    child = make_task(parent)
    root = end(make_run(parent))
    address = f"{URL}/{root.pk}/rerun"
    failed = end(child.runs.get(), "failed")
    response = admin.post(address, {"from": "failed"}, format="json")
    again = response.json()
    assert response.status_code == 202, again
    assert (again["task"]["id"], again["rerun_of"]) == (child.pk, failed.pk)
    response = admin.post(address, {"from": "start"}, format="json")
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/from"
    end(TaskRun.objects.get(pk=again["id"]))
    response = admin.post(again["links"]["rerun"], {"from": "failed"}, format="json")
    assert response.status_code == 409
    assert response.json()["code"] == "nothing_failed"


def test_a_run_of_a_deleted_task_stays_and_is_not_repeated(admin: APIClient) -> None:
    run = end(make_run(make_task(name="x")))
    admin.delete("/api/v1/tasks/x")
    response = admin.post(f"{URL}/{run.pk}/rerun")
    assert response.status_code == 409
    assert response.json()["code"] == "task_deleted"


def test_nobody_writes_a_run(admin: APIClient) -> None:
    run = make_run()
    for method in ("put", "patch", "delete", "post"):
        response = getattr(admin, method)(f"{URL}/{run.pk}", {"status": "succeeded"})
        assert response.status_code == 405
        assert response["Content-Type"] == "application/problem+json"
    assert admin.get(f"{URL}/{run.pk}").json()["status"] == "queued"


# --- waiting -------------------------------------------------------------------------


def test_a_wait_ends_when_the_time_is_up(reader: APIClient) -> None:
    run = make_run()
    began = time.monotonic()
    response = reader.get(f"{URL}/{run.pk}?wait=1")
    assert response.json()["status"] == "queued"
    assert 0.9 < time.monotonic() - began < 5


@pytest.mark.parametrize("wait", ["31", "-1", "x", "1.5", "NaN"])
def test_a_wait_has_limits(reader: APIClient, wait: str) -> None:
    run = make_run()
    response = reader.get(f"{URL}/{run.pk}?wait={wait}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == "wait"


@pytest.mark.django_db(transaction=True)
def test_a_wait_ends_with_the_run(committed: None, reader: APIClient) -> None:
    run = make_run()

    def finish_soon() -> None:
        time.sleep(0.5)
        end(TaskRun.objects.get(pk=run.pk))
        connection.close()

    worker = threading.Thread(target=finish_soon)
    worker.start()
    began = time.monotonic()
    body = reader.get(f"{URL}/{run.pk}?wait=20").json()
    worker.join()
    assert body["status"] == "succeeded"
    assert time.monotonic() - began < 10
