"""The page of alerts, and their number in the navigation."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks_app import ledger
from tasks_app.models import Alert, Task
from tests.factories import end, make_run, make_task
from tests.tasks_app.admin.conftest import READ, sign_in
from tests.tasks_app.admin.pages import ALERTS, TASKS, alert_url, list_url, task_url

pytestmark = pytest.mark.django_db

NASTY = "<img src=x onerror=alert(1)>"


def make_alert(task: Task | None = None, message: str = "nobody takes it") -> Alert:
    task = task or make_task()
    ledger.alert_raise("no_worker", f"task:{task.pk}", message, task_id=task.pk)
    return Alert.objects.get(task=task)


def text_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_list_tells_what_and_of_which_task(viewer: Client) -> None:
    task = make_task(name="nightly", pause_after_failures=1)
    end(make_run(task), "failed", exit_code=1)
    text = text_of(viewer, list_url(ALERTS))
    assert "Paused after failures in a row" in text
    assert task_url(task) in text
    assert Alert.objects.get().message in text


def test_resolve_asks_first(operator: Client) -> None:
    alert = make_alert()
    asked = text_of(operator, alert_url(alert))
    assert "Resolve this alert?" in asked
    assert "nobody takes it" in asked
    assert Alert.objects.open().exists()
    operator.post(alert_url(alert))
    assert not Alert.objects.open().exists()
    text = text_of(operator, list_url(ALERTS))
    assert "Nothing needs attention." in text
    assert "nobody takes it" in text_of(operator, list_url(ALERTS) + "?resolved=true")


def test_resolving_twice_does_not_resolve_its_successor(operator: Client) -> None:
    task = make_task()
    first = make_alert(task)
    operator.post(alert_url(first))
    ledger.alert_raise("no_worker", f"task:{task.pk}", "again", task_id=task.pk)
    operator.post(alert_url(first))
    assert Alert.objects.open().get().message == "again"


class TestNavigation:
    """Their number stands beside the word, for whoever may read them."""

    def badge(self, client: Client) -> int:
        groups = client.get(list_url(TASKS)).context["sidebar_navigation"]
        badges = [item["badge"] for group in groups for item in group["items"]]
        return sum(badges)

    def test_open_ones_are_counted(self, viewer: Client) -> None:
        assert self.badge(viewer) == 0
        for _ in range(3):
            make_alert()
        assert self.badge(viewer) == 3
        Alert.objects.update(resolved_at=ledger.database_now())
        assert self.badge(viewer) == 0

    def test_not_for_others(self) -> None:
        make_alert()
        client = sign_in("one", *(name for name in READ if name != "view_alert"))
        assert self.badge(client) == 0
        assert list_url(ALERTS) not in text_of(client, list_url(TASKS))


def test_the_statements_of_the_list_do_not_grow_with_alerts(
    viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make_alert()
        # session, user, two of permissions; count, alerts; their number
        with django_assert_num_queries(7):
            viewer.get(list_url(ALERTS))


def test_its_texts_are_inert(viewer: Client) -> None:
    make_alert(make_task(name=NASTY.replace("/", "")), NASTY)
    text = text_of(viewer, list_url(ALERTS))
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
