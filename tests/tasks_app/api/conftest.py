"""Callers of the API: nobody, somebody without rights, a reader, an administrator."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

READS = (
    "view_task",
    "view_taskrun",
    "view_workerinfo",
    "view_project",
    "view_calendar",
    "view_queue",
    "view_alert",
    "view_breaker",
)


def make_user(name: str, *codenames: str, **values: Any) -> User:
    user = User.objects.create_user(name, password="a-long-password", **values)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


def client_of(user: User | None) -> APIClient:
    client = APIClient()
    client.default_format = "json"
    if user is not None:
        client.force_authenticate(user)
    return client


@pytest.fixture
def anonymous() -> APIClient:
    return client_of(None)


@pytest.fixture
def stranger(db: None) -> APIClient:
    """Signed in, without any permission."""
    return client_of(make_user("stranger"))


@pytest.fixture
def reader(db: None) -> APIClient:
    return client_of(make_user("reader", *READS))


@pytest.fixture
def admin(db: None) -> APIClient:
    return client_of(make_user("admin", is_superuser=True))
