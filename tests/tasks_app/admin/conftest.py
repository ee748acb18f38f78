"""People at the console: what each of them may do."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

READ = (
    "view_task",
    "view_taskrun",
    "view_workerinfo",
    "view_calendar",
    "view_queue",
    "view_project",
    "view_alert",
)
EVERYTHING = (
    *READ,
    "add_task",
    "change_task",
    "delete_task",
    "trigger_task",
    "cancel_taskrun",
    "add_calendar",
    "change_calendar",
    "delete_calendar",
    "change_queue",
    "change_project",
    "change_alert",
)


def sign_in(name: str, *permissions: str) -> Client:
    """A client of a staff user with these permissions."""
    user = User.objects.create_user(name, password="not-a-secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    """May do everything with tasks and runs, and what bounds them."""
    return sign_in("ada", *EVERYTHING)


@pytest.fixture
def viewer(db: None) -> Client:
    """May read everything and do nothing."""
    return sign_in("vic", *READ)


@pytest.fixture
def stranger(db: None) -> Client:
    """May enter the admin, and has no permission at all."""
    return sign_in("sam")
