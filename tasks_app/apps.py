"""The app of tasks, runs and their ledger."""

from __future__ import annotations

from django.apps import AppConfig


class TasksAppConfig(AppConfig):
    name = "tasks_app"
    verbose_name = "Gnomon"
