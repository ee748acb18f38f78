"""Every address of the web service."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from scheduler_project import health

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("tasks_app.api.v1.urls")),
    path("api/v1/", include("workers_app.api")),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("version", health.version, name="version"),
]

handler400 = "tasks_app.api.errors.bad_request"
handler404 = "tasks_app.api.errors.not_found"
handler500 = "tasks_app.api.errors.server_error"
