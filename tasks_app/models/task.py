"""Tasks: what should run, when, and by which rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from tasks_app.choices import (
    Backoff,
    Delivery,
    Misfire,
    Overlap,
    Placement,
    TaskStatus,
    TriggerRule,
)
from tasks_app.models.calendar import Calendar
from tasks_app.models.project import MAX_RETENTION_DAYS, Project
from tasks_app.rules.schedules import (
    Schedule,
    stored_schedule,
)

DEFINITION_FIELDS = (
    "executor",
    "command",
    "payload",
    "timezone",
    "queue",
    "timeout_seconds",
    "start_deadline_seconds",
    "delivery",
    "max_attempts",
    "retry_backoff",
    "retry_initial_seconds",
    "retry_max_seconds",
    "misfire",
    "jitter_seconds",
    "priority",
    "overlap",
    "max_concurrency",
    "max_queued",
    "rate_limit_runs",
    "rate_limit_seconds",
    "trigger_rule",
    "placement",
    "worker_name",
    "match",
    "pause_after_failures",
    "retention_days",
)
"""What a TaskVersion records of a task, besides its schedule."""


class TaskQuerySet(models.QuerySet["Task"]):
    def existing(self) -> TaskQuerySet:
        """Tasks that were not deleted."""
        return self.exclude(status=TaskStatus.DELETED)

    def due(self, now: datetime) -> TaskQuerySet:
        """Active tasks whose next nominal time has come."""
        return self.filter(status=TaskStatus.ACTIVE, next_fire_at__lte=now)


class Task(models.Model):
    """One thing to run: a command for an executor, a schedule, and policies.

    `next_fire_at` is the cursor of the schedule: the next nominal time that has no
    run yet. Only the ledger moves it, together with the run it accounts for.
    """

    project = models.ForeignKey(Project, models.PROTECT, related_name="tasks")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    status = models.CharField(
        max_length=10, choices=TaskStatus, default=TaskStatus.ACTIVE
    )
    executor = models.CharField(
        max_length=50, help_text="How it runs: shell, http, python, or an added one."
    )
    command = models.TextField(
        blank=True,
        help_text="What runs: a shell line, a URL, or a registered callable's name.",
    )
    payload = models.JSONField(
        default=dict, blank=True, help_text="The executor's other parameters."
    )
    schedule = models.OneToOneField(
        PeriodicTask,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="gnomon_task",
        help_text="The django-celery-beat row that holds the schedule.",
    )
    timezone = models.CharField(max_length=64, default="UTC")
    next_fire_at = models.DateTimeField(null=True, blank=True, editable=False)
    misfire = models.CharField(max_length=10, choices=Misfire, default=Misfire.LATEST)
    queue = models.CharField(max_length=100, default="default")
    timeout_seconds = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(1), MaxValueValidator(30 * 24 * 3600)],
    )
    start_deadline_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="A run that has not started by then expires.",
    )
    delivery = models.CharField(
        max_length=15, choices=Delivery, default=Delivery.AT_MOST_ONCE
    )
    max_attempts = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(20)]
    )
    retry_backoff = models.CharField(
        max_length=15, choices=Backoff, default=Backoff.EXPONENTIAL
    )
    retry_initial_seconds = models.PositiveIntegerField(
        default=30, validators=[MaxValueValidator(24 * 3600)]
    )
    retry_max_seconds = models.PositiveIntegerField(
        default=3600, validators=[MaxValueValidator(7 * 24 * 3600)]
    )
    jitter_seconds = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(24 * 3600)],
        help_text="Each fire starts up to so much later, by a fixed draw per fire.",
    )
    calendars = models.ManyToManyField(
        Calendar, blank=True, related_name="tasks", help_text="Blackouts."
    )
    priority = models.PositiveSmallIntegerField(
        default=5,
        validators=[MaxValueValidator(9)],
        help_text="0 to 9; of the runs that wait, the highest starts first.",
    )
    overlap = models.CharField(max_length=10, choices=Overlap, default=Overlap.ALLOW)
    max_concurrency = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Runs of the task that run at a time. Empty: no limit, or 1 where"
        " overlap is not allow.",
    )
    max_queued = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Runs of the task that may wait. Empty: MAX_QUEUED_RUNS.",
    )
    rate_limit_runs = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="At most so many runs start within the span below.",
    )
    rate_limit_seconds = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1), MaxValueValidator(24 * 3600)]
    )
    trigger_rule = models.CharField(
        max_length=15, choices=TriggerRule, default=TriggerRule.ALL_SUCCESS
    )
    placement = models.CharField(
        max_length=15, choices=Placement, default=Placement.ANY
    )
    worker_name = models.CharField(max_length=200, blank=True)
    match = models.CharField(
        max_length=500,
        blank=True,
        help_text="Tags that a worker must have, as in: gpu and not (eu or spot).",
    )
    pause_after_failures = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Pauses itself after so many failed runs in a row.",
    )
    retention_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(MAX_RETENTION_DAYS)],
        help_text="Days that its runs are kept; 0: for ever. Empty: its project's.",
    )
    target = models.CharField(
        max_length=300,
        blank=True,
        editable=False,
        help_text="The host and port that an HTTP task calls.",
    )
    status_reason = models.CharField(
        max_length=500, blank=True, help_text="Why it was paused, if not by a person."
    )
    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        permissions = [("trigger_task", "Can run a task now")]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"],
                condition=~Q(status=TaskStatus.DELETED),
                name="task_name_unique_in_project",
                violation_error_message="The project has a task of this name.",
            ),
            # C4: whoever asks for a second attempt has said that repeating is safe.
            models.CheckConstraint(
                condition=Q(delivery=Delivery.AT_LEAST_ONCE) | Q(max_attempts=1),
                name="task_retries_are_opt_in",
            ),
            models.CheckConstraint(
                condition=~Q(overlap=Overlap.ALLOW) | Q(max_concurrency__isnull=True),
                name="task_overlap_allow_has_no_limit",
            ),
        ]
        indexes = [
            # The planner's question, each tick: which active tasks are due?
            models.Index(
                fields=["next_fire_at"],
                condition=Q(status=TaskStatus.ACTIVE),
                name="task_due",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def schedule_rule(self) -> Schedule | None:
        """The schedule as a rule that can be asked for its fires."""
        row = self.schedule
        if row is None:
            return None
        cron, interval = row.crontab, row.interval
        return stored_schedule(
            _expression(cron) if cron else None,
            self.timezone,
            timedelta(**{interval.period: interval.every}) if interval else None,
            row.clocked.clocked_time if row.clocked else None,
            row.start_time,
            row.expires,
        )


def _expression(cron: CrontabSchedule) -> str:
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return " ".join(getattr(cron, name) for name in names)


def executor_payload(command: str, payload: dict[str, Any]) -> dict[str, Any]:
    """An executor's parameters: its payload, and its command unless that is empty."""
    return {**payload, "command": command} if command else dict(payload)


class TaskVersion(models.Model):
    """One definition of a task, as it was. Append-only: each run pins the one it runs.

    `definition` holds DEFINITION_FIELDS and `schedule` as the API shows it.
    """

    task = models.ForeignKey(Task, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField()
    created_at = models.DateTimeField(help_text="By the database's clock.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )

    class Meta:
        ordering = ["task", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "number"], name="task_version_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.task_id} v{self.number}"
