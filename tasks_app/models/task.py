"""Tasks: what should run, when, and by which rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django_celery_beat.models import PeriodicTask

from tasks_app.choices import Backoff, Delivery, Misfire, TaskStatus
from tasks_app.models.project import Project
from tasks_app.rules.schedules import (
    CronSchedule,
    IntervalSchedule,
    OneOffSchedule,
    Schedule,
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
        if row.crontab:
            cron = row.crontab
            fields = (
                cron.minute,
                cron.hour,
                cron.day_of_month,
                cron.month_of_year,
                cron.day_of_week,
            )
            return CronSchedule(
                " ".join(fields), self.timezone, row.start_time, row.expires
            )
        if row.interval:
            period = timedelta(**{row.interval.period: row.interval.every})
            return IntervalSchedule(
                int(period.total_seconds()), row.start_time, row.expires
            )
        return OneOffSchedule(row.clocked.clocked_time)


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
    created_at = models.DateTimeField(auto_now_add=True)
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
