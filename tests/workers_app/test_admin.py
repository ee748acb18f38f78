"""The pages of the fleet."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from tests.factories import claim, make_run, make_task, make_worker, shift
from workers_app.models import WorkerInfo
from workers_app.registration import worker_offline

pytestmark = pytest.mark.django_db

LIST = "admin:workers_app_workerinfo_changelist"


def page_of(worker: WorkerInfo) -> str:
    return reverse("admin:workers_app_workerinfo_change", args=[worker.pk])


def test_the_list_shows_who_lives_first(admin_client: Client) -> None:
    gone, there = make_worker("a-gone"), make_worker("b-there")
    worker_offline(gone.pk)
    answer = admin_client.get(reverse(LIST))
    assert [row.worker for row in answer.context["workers"]] == [there, gone]
    text = answer.content.decode()
    for part in ("Offline", "Online", "0 / 10", "default"):
        assert part in text


def test_a_worker_that_claims_to_live_and_is_not_heard_of_is_silent(
    admin_client: Client,
) -> None:
    worker = make_worker()
    shift(WorkerInfo, worker.pk, 3600, "last_heartbeat")
    assert "Silent" in admin_client.get(reverse(LIST)).content.decode()


def test_a_queue_that_nobody_serves_is_told(admin_client: Client) -> None:
    make_worker()
    make_run(make_task(queue="gpu"))
    make_run()
    answer = admin_client.get(reverse(LIST))
    assert "No worker serves the queue “gpu”: 1 run waits." in answer.content.decode()
    assert [
        (row.name, row.waiting, row.workers) for row in answer.context["queues"]
    ] == [
        ("gpu", 1, 0),
        ("default", 1, 1),
    ]


def test_its_statements_do_not_grow_with_the_fleet(
    admin_client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(2):
        for _worker in range(3):
            make_worker()
            make_run()
        # session, user; workers, their runs, queues; alerts
        with django_assert_num_queries(6):
            admin_client.get(reverse(LIST))


def test_a_workers_page_shows_what_it_runs(admin_client: Client) -> None:
    worker = make_worker("w-1")
    run = make_run(make_task(name="nightly"))
    make_run(make_task(name="waiting"))
    claim(run, worker)
    text = admin_client.get(page_of(worker)).content.decode()
    assert "nightly" in text
    assert "waiting" not in text


def test_names_are_inert(admin_client: Client) -> None:
    worker = make_worker("<script>alert(1)</script>")
    for url in (reverse(LIST), page_of(worker)):
        text = admin_client.get(url).content.decode()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text


def test_a_worker_is_drained_after_a_question(admin_client: Client) -> None:
    worker = make_worker("w-1")
    claim(make_run(), worker)
    url = reverse("admin:workers_app_workerinfo_drain", args=[worker.pk])
    asked = admin_client.get(url).content.decode()
    assert "Drain worker “w-1”?" in asked
    assert "It finishes the 1 run that it has." in asked
    worker.refresh_from_db()
    assert not worker.is_draining
    answer = admin_client.post(url, follow=True)
    assert answer.redirect_chain[0][0] == page_of(worker)
    for text in (
        answer.content.decode(),
        admin_client.get(reverse(LIST)).content.decode(),
    ):
        assert "Draining" in text
        assert "1 run left" in text
        assert "Claim again" in text
    url = reverse("admin:workers_app_workerinfo_undrain", args=[worker.pk])
    assert admin_client.get(url).status_code == 405
    admin_client.post(url)
    worker.refresh_from_db()
    assert not worker.is_draining


def test_draining_needs_its_permission(client: Client) -> None:
    worker = make_worker()
    user = User.objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_workerinfo"))
    client.force_login(user)
    for page in ("drain", "undrain"):
        url = reverse(f"admin:workers_app_workerinfo_{page}", args=[worker.pk])
        assert client.post(url).status_code == 403
    assert "Drain" not in client.get(page_of(worker)).content.decode()


def test_an_offline_worker_is_not_drained(admin_client: Client) -> None:
    worker = make_worker()
    worker_offline(worker.pk)
    assert ">Drain<" not in admin_client.get(page_of(worker)).content.decode()
    url = reverse("admin:workers_app_workerinfo_drain", args=[worker.pk])
    answer = admin_client.post(url, follow=True)
    assert "The worker is offline" in answer.content.decode()
