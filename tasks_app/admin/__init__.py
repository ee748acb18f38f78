"""The console: a file a screen, over the same services as the API."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin

from tasks_app.admin import (
    accounts,
    alerts,
    calendars,
    dashboard,
    projects,
    queues,
    runs,
    tasks,
)

__all__ = [
    "accounts",
    "alerts",
    "calendars",
    "dashboard",
    "projects",
    "queues",
    "runs",
    "tasks",
]

# django-celery-beat's own pages let whoever may view an entry run and enable it.
for _model in apps.get_app_config("django_celery_beat").get_models():
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)
