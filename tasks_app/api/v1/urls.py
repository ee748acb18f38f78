"""The routes of version 1. A slash at the end is as good as none."""

from __future__ import annotations

from django.urls import re_path

from tasks_app.api.v1 import (
    auth_views,
    log_views,
    run_views,
    schedule_views,
    schema_views,
    task_views,
)

TASK = r"tasks/(?P<task>[^/\x00-\x1f]+)"
RUN = r"runs/(?P<run_id>[^/\x00-\x1f]+)"

urlpatterns = [
    re_path(r"^auth/token/?$", auth_views.TokenCreate.as_view(), name="auth-token"),
    re_path(
        r"^auth/refresh/?$", auth_views.TokenRefresh.as_view(), name="auth-refresh"
    ),
    re_path(r"^me/?$", auth_views.Me.as_view(), name="me"),
    re_path(r"^tasks/?$", task_views.TaskList.as_view(), name="tasks"),
    re_path(rf"^{TASK}/?$", task_views.TaskDetail.as_view(), name="task"),
    re_path(rf"^{TASK}/pause/?$", task_views.TaskPause.as_view(), name="task-pause"),
    re_path(rf"^{TASK}/resume/?$", task_views.TaskResume.as_view(), name="task-resume"),
    re_path(rf"^{TASK}/runs/?$", run_views.TaskRuns.as_view(), name="task-runs"),
    re_path(
        rf"^{TASK}/next-fires/?$",
        schedule_views.TaskNextFires.as_view(),
        name="task-next-fires",
    ),
    re_path(
        rf"^{TASK}/versions/?$", task_views.TaskVersions.as_view(), name="task-versions"
    ),
    re_path(
        r"^schedules/preview/?$",
        schedule_views.SchedulePreview.as_view(),
        name="schedule-preview",
    ),
    re_path(r"^runs/?$", run_views.RunList.as_view(), name="runs"),
    re_path(rf"^{RUN}/?$", run_views.RunDetail.as_view(), name="run"),
    re_path(rf"^{RUN}/events/?$", run_views.RunEvents.as_view(), name="run-events"),
    re_path(rf"^{RUN}/cancel/?$", run_views.RunCancel.as_view(), name="run-cancel"),
    re_path(rf"^{RUN}/rerun/?$", run_views.RunRerun.as_view(), name="run-rerun"),
    re_path(rf"^{RUN}/logs/?$", log_views.RunLogs.as_view(), name="run-logs"),
    re_path(
        rf"^{RUN}/logs\.txt/?$", log_views.RunLogsText.as_view(), name="run-logs-text"
    ),
    re_path(
        rf"^{RUN}/logs/stream/?$",
        log_views.RunLogsStream.as_view(),
        name="run-logs-stream",
    ),
    re_path(r"^schema/?$", schema_views.Schema.as_view(), name="schema"),
    re_path(r"^docs/?$", schema_views.Docs.as_view(url_name="schema"), name="docs"),
]
