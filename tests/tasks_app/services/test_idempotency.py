"""C11: two requests with one key give one run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from tasks_app.errors import IdempotencyKeyReused
from tasks_app.models import IdempotencyKey, TaskRun
from tasks_app.services.idempotency import KeyedRequest, answer_once, keys_forget
from tests.factories import make_run, make_task, shift


def request(**values: str) -> KeyedRequest:
    return KeyedRequest(
        **{
            "principal": "user:1",
            "path": "/runs",
            "key": "k",
            "body_hash": "h",
            **values,
        }
    )


def answer(number: int) -> dict[str, Any]:
    return {"id": number}


@pytest.mark.django_db
class TestOneAfterAnother:
    def test_the_second_request_gets_the_answer_of_the_first(self) -> None:
        assert answer_once(request(), lambda: answer(1)) == ({"id": 1}, False)
        assert answer_once(request(), lambda: answer(2)) == ({"id": 1}, True)

    def test_another_body_under_the_same_key_is_refused(self) -> None:
        answer_once(request(), lambda: answer(1))
        with pytest.raises(IdempotencyKeyReused):
            answer_once(request(body_hash="other"), lambda: answer(2))

    @pytest.mark.parametrize("scope", ["principal", "path", "key"])
    def test_a_key_holds_for_its_principal_and_path(self, scope: str) -> None:
        answer_once(request(), lambda: answer(1))
        other = request(**{scope: "other"})
        assert answer_once(other, lambda: answer(2)) == ({"id": 2}, False)

    def test_a_key_is_forgotten_after_a_day(self) -> None:
        answer_once(request(), lambda: answer(1))
        shift(IdempotencyKey, IdempotencyKey.objects.get().pk, 86_401, "created_at")
        assert answer_once(request(), lambda: answer(2)) == ({"id": 2}, False)

    def test_old_keys_are_deleted(self) -> None:
        answer_once(request(), lambda: answer(1))
        assert keys_forget() == 0
        shift(IdempotencyKey, IdempotencyKey.objects.get().pk, 86_401, "created_at")
        assert keys_forget() == 1

    def test_a_failed_request_leaves_the_key_free(self) -> None:
        def fail() -> dict[str, Any]:
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011 - raised right above
            answer_once(request(), fail)
        assert answer_once(request(), lambda: answer(2)) == ({"id": 2}, False)


@pytest.mark.usefixtures("committed")
def test_requests_at_the_same_time_do_the_work_once() -> None:
    task = make_task()

    def trigger() -> dict[str, Any]:
        return answer(make_run(task).pk)

    def send(_: int) -> dict[str, Any]:
        try:
            return answer_once(request(), trigger)[0]
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(send, range(10)))

    (run,) = TaskRun.objects.all()
    assert answers == [{"id": run.pk}] * 10
