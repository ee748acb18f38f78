"""Every route of the API: closed unless the policy opens it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from tasks_app.api.v1.task_views import TaskList
from tasks_app.models import Alert, Breaker, Calendar, Queue
from tasks_app.policy import ACTIONS, PUBLIC_ROUTES, may
from tests.factories import make_run, make_task, make_worker
from tests.tasks_app.api.conftest import client_of, make_user

METHODS = ("get", "post", "put", "patch", "delete")
ARGUMENTS = {
    "task": "task",
    "run_id": "1",
    "worker": "worker",
    "calendar": "calendar",
    "project": "default",
    "queue": "queue",
    "alert_id": "1",
    "target": "shop.example:443",
}


def routes(
    resolver: Any = None, prefix: str = ""
) -> Iterator[tuple[str, str, type[Any]]]:
    """(name, path, view) of each route under /api/."""
    for pattern in (resolver or get_resolver()).url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, path)
        elif isinstance(pattern, URLPattern) and path.startswith("api/"):
            yield pattern.name or "", path, pattern.callback.cls  # type: ignore[attr-defined]


def path_of(pattern: str) -> str:
    """A path that the route's pattern matches."""
    path = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda found: ARGUMENTS[found[1]], pattern)
    return "/" + path.replace("/?$", "").replace("^", "").replace("\\.", ".")


ROUTES = list(routes())
CLOSED = [route for route in ROUTES if route[0] not in PUBLIC_ROUTES]
OPERATIONS = [
    (method, path_of(path), view.actions[method])
    for _name, path, view in CLOSED
    for method in METHODS
    if hasattr(view, method)
]


def test_the_walk_finds_the_api() -> None:
    assert len(ROUTES) > 20
    assert {name for name, *_ in ROUTES} > PUBLIC_ROUTES


@pytest.mark.parametrize(("name", "path", "view"), ROUTES)
def test_every_handler_has_a_row_in_the_policy_or_is_listed_as_public(
    name: str, path: str, view: type[Any]
) -> None:
    handlers = {method for method in METHODS if hasattr(view, method)}
    assert handlers
    if name in PUBLIC_ROUTES:
        assert not getattr(view, "actions", {})
    else:
        assert set(view.actions) == handlers
        assert set(view.actions.values()) <= set(ACTIONS)


@pytest.mark.parametrize("method", [*METHODS, "head", "options", "trace"])
@pytest.mark.parametrize("path", [path_of(path) for _, path, _ in CLOSED])
@pytest.mark.django_db
def test_nobody_gets_nothing(anonymous: APIClient, method: str, path: str) -> None:
    response = anonymous.generic(method.upper(), path)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path", "action"), OPERATIONS)
@pytest.mark.django_db
def test_a_stranger_is_told_what_is_missing(
    stranger: APIClient, method: str, path: str, action: str
) -> None:
    response = getattr(stranger, method)(path, {} if method != "get" else None)
    if not ACTIONS[action]:
        assert response.status_code == 200
        return
    assert response.status_code == 403
    body = response.json()
    assert body["code"] == "missing_permission"
    assert body["permission"] == ACTIONS[action]
    assert ACTIONS[action] in body["detail"]


@pytest.mark.parametrize(("method", "path", "action"), OPERATIONS)
@pytest.mark.django_db
def test_the_one_permission_is_enough(method: str, path: str, action: str) -> None:
    make_task(name="task", cron="0 3 * * *")
    make_worker("worker")
    Calendar.objects.create(name="calendar")
    Queue.objects.create(name="queue")
    Breaker.objects.create(target="shop.example:443")
    alert = Alert.objects.create(kind="poison", raised_at=timezone.now())
    path = path.replace("/runs/1", f"/runs/{make_run().pk}")
    path = path.replace("/alerts/1", f"/alerts/{alert.pk}")
    codename = ACTIONS[action].rpartition(".")[2]
    client = client_of(make_user("x", codename))
    response = getattr(client, method)(path, {} if method != "get" else None)
    response.close()
    assert response.status_code not in {401, 403, 404}
    assert response.status_code < 500


@pytest.mark.django_db
def test_a_view_without_a_row_is_closed(
    admin: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for actions in ({}, {"get": "task.unheard_of"}):
        monkeypatch.setattr(TaskList, "actions", actions)
        response = admin.get("/api/v1/tasks")
        assert response.status_code == 403
        assert response.json()["code"] == "permission_denied"


@pytest.mark.django_db
def test_may() -> None:
    user = make_user("x", "view_task")
    assert may(user, "task.read")
    assert may(user, "self.read")
    assert not may(user, "task.edit")
    assert not may(user, "unheard.of")
    assert not may(AnonymousUser(), "self.read")
    User.objects.update(is_active=False)
    assert not may(User.objects.get(), "self.read")
