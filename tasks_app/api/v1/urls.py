"""The routes of version 1. A slash at the end is as good as none."""

from __future__ import annotations

from django.urls import re_path

from tasks_app.api.v1 import (
    alert_views,
    auth_views,
    backfill_views,
    calendar_views,
    explain_views,
    log_views,
    project_views,
    queue_views,
    run_views,
    schedule_views,
    schema_views,
    stats_views,
    task_views,
)

TASK = r"tasks/(?P<task>[^/\x00-\x1f]+)"
CALENDAR = r"calendars/(?P<calendar>[^/\x00-\x1f]+)"
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
        rf"^{TASK}/backfill/?$",
        backfill_views.TaskBackfill.as_view(),
        name="task-backfill",
    ),
    re_path(
        rf"^{TASK}/explain/?$",
        explain_views.TaskExplain.as_view(),
        name="task-explain",
    ),
    re_path(r"^projects/?$", project_views.ProjectList.as_view(), name="projects"),
    re_path(
        r"^projects/(?P<project>[^/\x00-\x1f]+)/?$",
        project_views.ProjectDetail.as_view(),
        name="project",
    ),
    re_path(r"^calendars/?$", calendar_views.CalendarList.as_view(), name="calendars"),
    re_path(
        rf"^{CALENDAR}/?$", calendar_views.CalendarDetail.as_view(), name="calendar"
    ),
    re_path(
        rf"^{CALENDAR}/preview/?$",
        calendar_views.CalendarPreview.as_view(),
        name="calendar-preview",
    ),
    re_path(r"^queues/?$", queue_views.QueueList.as_view(), name="queues"),
    re_path(
        r"^queues/(?P<queue>[^/\x00-\x1f]+)/?$",
        queue_views.QueueDetail.as_view(),
        name="queue",
    ),
    re_path(r"^alerts/?$", alert_views.AlertList.as_view(), name="alerts"),
    re_path(
        r"^alerts/(?P<alert_id>[^/\x00-\x1f]+)/resolve/?$",
        alert_views.AlertResolve.as_view(),
        name="alert-resolve",
    ),
    re_path(r"^breakers/?$", alert_views.BreakerList.as_view(), name="breakers"),
    re_path(
        r"^breakers/(?P<target>[^/\x00-\x1f]+)/close/?$",
        alert_views.BreakerClose.as_view(),
        name="breaker-close",
    ),
    re_path(
        r"^schedules/preview/?$",
        schedule_views.SchedulePreview.as_view(),
        name="schedule-preview",
    ),
    re_path(r"^runs/?$", run_views.RunList.as_view(), name="runs"),
    re_path(rf"^{RUN}/?$", run_views.RunDetail.as_view(), name="run"),
    re_path(
        rf"^{RUN}/explain/?$", explain_views.RunExplain.as_view(), name="run-explain"
    ),
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
    re_path(r"^stats/?$", stats_views.StatsView.as_view(), name="stats"),
    re_path(r"^schema/?$", schema_views.Schema.as_view(), name="schema"),
    re_path(r"^docs/?$", schema_views.Docs.as_view(url_name="schema"), name="docs"),
]
