"""`Idempotency-Key`: the same request, sent again, is done once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from tasks_app.models import IdempotencyKey, Project, Task, TaskRun
from tests.factories import end, make_run, make_task, shift
from tests.tasks_app.api.conftest import client_of, make_user

pytestmark = pytest.mark.django_db

TASK = {"name": "x", "executor": "shell", "command": "true"}


def post(api: APIClient, path: str, body: Any = None, key: str = "k1") -> Any:
    return api.post(f"/api/v1/{path}", body or {}, headers={"Idempotency-Key": key})


def test_a_repeated_trigger_gives_the_first_answer(admin: APIClient) -> None:
    make_task(name="x")
    first = post(admin, "tasks/x/runs", {"reason": "r"})
    again = post(admin, "tasks/x/runs/", {"reason": "r"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again["Location"] == first["Location"]
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    assert TaskRun.objects.count() == 1


def test_a_repeated_creation_gives_the_first_answer(admin: APIClient) -> None:
    first = post(admin, "tasks", TASK)
    again = post(admin, "tasks", dict(reversed(TASK.items())))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again["ETag"] == first["ETag"]
    assert Task.objects.count() == 1


def test_a_repeated_rerun_gives_the_first_answer(admin: APIClient) -> None:
    run = end(make_run())
    first = post(admin, f"runs/{run.pk}/rerun")
    again = post(admin, f"runs/{run.pk}/rerun")
    assert first.json()["id"] == again.json()["id"]
    assert TaskRun.objects.count() == 2


def test_another_body_under_the_key_is_refused(admin: APIClient) -> None:
    make_task(name="x")
    post(admin, "tasks/x/runs", {"reason": "r"})
    response = post(admin, "tasks/x/runs", {"reason": "other"})
    assert response.status_code == 422
    assert response.json()["code"] == "idempotency_key_reused"
    assert TaskRun.objects.count() == 1


def test_another_project_is_another_request(admin: APIClient) -> None:
    make_task(name="x")
    make_task(name="x", project=Project.objects.create(name="other"))
    assert post(admin, "tasks/x/runs?project=default").status_code == 202
    assert post(admin, "tasks/x/runs?project=other").status_code == 422


def test_a_key_is_of_one_user_and_one_path(admin: APIClient) -> None:
    make_task(name="x")
    make_task(name="y")
    other = client_of(make_user("other", is_superuser=True))
    answers = [
        post(admin, "tasks/x/runs"),
        post(admin, "tasks/y/runs"),
        post(other, "tasks/x/runs"),
        post(admin, "tasks/x/runs", key="k2"),
    ]
    assert len({answer.json()["id"] for answer in answers}) == 4


def test_a_refusal_is_not_kept(admin: APIClient) -> None:
    assert post(admin, "tasks", {"name": "x"}).status_code == 400
    assert post(admin, "tasks/none/runs").status_code == 404
    assert IdempotencyKey.objects.count() == 0
    assert post(admin, "tasks", TASK).status_code == 201


def test_a_key_is_forgotten_after_a_day(admin: APIClient) -> None:
    make_task(name="x")
    first = post(admin, "tasks/x/runs")
    shift(IdempotencyKey, IdempotencyKey.objects.get().pk, 86_401, "created_at")
    again = post(admin, "tasks/x/runs")
    assert again.json()["id"] != first.json()["id"]
    assert "Idempotency-Replayed" not in again


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "a\x07", "ключ", "\x00"])
def test_a_key_is_printable_and_short(admin: APIClient, key: str) -> None:
    make_task(name="x")
    raw = key.encode().decode("latin-1")
    response = post(admin, "tasks/x/runs", key=raw)
    assert response.status_code == 400
    assert response.json()["code"] == "invalid_idempotency_key"
    assert TaskRun.objects.count() == 0


def test_the_longest_key_and_path_fit(admin: APIClient) -> None:
    make_task(name="字" * 200)
    assert post(admin, f"tasks/{'字' * 200}/runs", key="x" * 200).status_code == 202
    assert post(admin, f"tasks/{'x' * 3000}/runs").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_parallel_twins_make_one_run(committed: None) -> None:
    make_task(name="x")
    user = make_user("admin", is_superuser=True)
    answers: list[Any] = []

    def send() -> None:
        answers.append(post(client_of(user), "tasks/x/runs"))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer for answer in answers) == 7
    assert TaskRun.objects.count() == 1
