"""The pages of queues: what waits, and the limit that one may set."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks_app.models import Queue
from tests.factories import claim, make_run, make_task, make_worker
from tests.tasks_app.admin.pages import QUEUES, list_url, queue_url

pytestmark = pytest.mark.django_db

NASTY = "<img src=x>/?&#"


def test_a_line_tells_what_waits_and_runs_and_the_limit(viewer: Client) -> None:
    worker = make_worker()
    task = make_task()
    claim(make_run(task), worker)
    make_run(task)
    Queue.objects.create(name="default", max_concurrency=7, description="the usual")
    (state,) = viewer.get(list_url(QUEUES)).context["queues"]
    assert (state.queued, state.running, state.max_concurrency) == (1, 1, 7)
    assert state.workers_online == 1
    assert "the usual" in viewer.get(list_url(QUEUES)).content.decode()


def test_one_that_nobody_serves_stands_out(viewer: Client) -> None:
    make_run(make_task(queue="gpu"))
    assert (
        '<span class="gn-late">none</span>'
        in viewer.get(list_url(QUEUES)).content.decode()
    )


@pytest.mark.parametrize("name", ["default", NASTY])
def test_a_limit_is_set_and_taken_away(operator: Client, name: str) -> None:
    make_task(queue=name)
    page = operator.get(queue_url(name)).content.decode()
    assert "<img" not in page.split("<main", 1)[-1]
    operator.post(queue_url(name), {"max_concurrency": "3", "description": "few"})
    queue = Queue.objects.get(name=name)
    assert (queue.max_concurrency, queue.description) == (3, "few")
    operator.post(queue_url(name), {"max_concurrency": "", "description": ""})
    queue.refresh_from_db()
    assert queue.max_concurrency is None


@pytest.mark.parametrize("limit", ["0", "-1", "many", "9" * 30])
def test_an_error_is_shown_on_its_field(operator: Client, limit: str) -> None:
    make_task()
    answer = operator.post(queue_url("default"), {"max_concurrency": limit})
    assert answer.context["form"].errors["max_concurrency"]
    assert not Queue.objects.exists()


def test_an_unknown_queue_is_a_404(operator: Client) -> None:
    assert operator.get(queue_url("nowhere")).status_code == 404
    assert operator.get(list_url(QUEUES, "limit")).status_code == 404


def test_the_statements_of_the_list_do_not_grow_with_queues(
    viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(3):
        make_run(make_task(queue=f"queue-{number}"))
        make_worker(queues=[f"queue-{number}"])
        # session, user, two of permissions; clock, limits, runs, workers, tasks; alerts
        with django_assert_num_queries(10):
            viewer.get(list_url(QUEUES))
