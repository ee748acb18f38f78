"""The wiring as an app, for its management commands."""

from __future__ import annotations

from django.apps import AppConfig


class SchedulerProjectConfig(AppConfig):
    name = "scheduler_project"
