"""Who may do what: one table of actions and the Django permission each asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.contrib.auth.models import AbstractUser, AnonymousUser

SIGNED_IN: Final = ""
"""Stands in the table for an action that any user may do who is signed in."""

ACTIONS: Final[Mapping[str, str]] = {
    "self.read": SIGNED_IN,
    "schema.read": SIGNED_IN,
    "task.read": "tasks_app.view_task",
    "task.create": "tasks_app.add_task",
    "task.edit": "tasks_app.change_task",
    "task.delete": "tasks_app.delete_task",
    "run.read": "tasks_app.view_taskrun",
    "stats.read": "tasks_app.view_taskrun",
    "run.trigger": "tasks_app.trigger_task",
    "run.cancel": "tasks_app.cancel_taskrun",
    "run.backfill": "tasks_app.trigger_task",
    "project.read": "tasks_app.view_project",
    "project.edit": "tasks_app.change_project",
    "calendar.read": "tasks_app.view_calendar",
    "calendar.create": "tasks_app.add_calendar",
    "calendar.edit": "tasks_app.change_calendar",
    "calendar.delete": "tasks_app.delete_calendar",
    "queue.read": "tasks_app.view_queue",
    "queue.edit": "tasks_app.change_queue",
    "queue.delete": "tasks_app.delete_queue",
    "alert.read": "tasks_app.view_alert",
    "alert.resolve": "tasks_app.change_alert",
    "breaker.read": "tasks_app.view_breaker",
    "breaker.close": "tasks_app.change_breaker",
    "worker.read": "workers_app.view_workerinfo",
    "worker.drain": "workers_app.change_workerinfo",
}

PUBLIC_ROUTES: Final = frozenset({"auth-token", "auth-refresh"})
"""The routes of the API, by name, that answer without a user. No other does."""


def may(user: AbstractUser | AnonymousUser, action: str) -> bool:
    """Whether a user may do an action of the table. Unknown actions nobody may."""
    permission = ACTIONS.get(action)
    if permission is None or not (user.is_authenticated and user.is_active):
        return False
    return permission == SIGNED_IN or user.has_perm(permission)
