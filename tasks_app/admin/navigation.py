"""The sidebar: what a user may read, and nothing else."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from tasks_app.models import Alert
from tasks_app.policy import may

ALERTS = "tasks_app_alert"
CALENDARS = "tasks_app_calendar"


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    user = request.user
    operation = [
        (may(user, "task.read"), _("Tasks"), "task", "tasks_app_task"),
        (may(user, "run.read"), _("Runs"), "history", "tasks_app_taskrun"),
        (may(user, "worker.read"), _("Workers"), "dns", "workers_app_workerinfo"),
        (may(user, "queue.read"), _("Queues"), "stacks", "tasks_app_queue"),
        (may(user, "project.read"), _("Projects"), "folder", "tasks_app_project"),
        (may(user, "calendar.read"), _("Calendars"), "event_busy", CALENDARS),
        (may(user, "alert.read"), _("Alerts"), "warning", ALERTS),
    ]
    accounts = [
        (user.has_perm("auth.view_user"), _("Users"), "person", "auth_user"),
        (user.has_perm("auth.view_group"), _("Groups"), "group", "auth_group"),
    ]
    home = {
        "title": _("Dashboard"),
        "icon": "monitoring",
        "link": reverse("admin:index"),
        "badge": 0,
    }
    groups = [
        _group(_("Operation"), operation, home),
        _group(_("Administration"), accounts),
    ]
    return [group for group in groups if group["items"]]


def _group(
    title: Any, entries: list[tuple[bool, Any, str, str]], *first: dict[str, Any]
) -> dict[str, Any]:
    items = list(first) + [
        {
            "title": name,
            "icon": icon,
            "link": reverse(f"admin:{model}_changelist"),
            "badge": Alert.objects.open().count() if model == ALERTS else 0,
        }
        for is_seen, name, icon, model in entries
        if is_seen
    ]
    return {"title": title, "items": items}
