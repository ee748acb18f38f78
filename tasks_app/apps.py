"""The app of tasks, runs and their ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.apps import apps as global_apps
from django.apps.registry import Apps
from django.db.models.signals import post_migrate

if TYPE_CHECKING:
    from django.db.migrations.state import StateApps


class TasksAppConfig(AppConfig):
    name = "tasks_app"
    verbose_name = "Gnomon"

    def ready(self) -> None:
        """Have the default project there after every `migrate` and `flush`."""
        post_migrate.connect(_make_default_project, sender=self)


def _make_default_project(
    using: str, apps: StateApps | Apps = global_apps, **_: Any
) -> None:
    try:
        projects = apps.get_model("tasks_app", "Project").objects.using(using)
    except LookupError:  # migrated back to nothing
        return
    projects.get_or_create(
        name="default", defaults={"description": "For tasks that name no project."}
    )
