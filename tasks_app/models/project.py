"""Projects: every task belongs to one, and rights are given by project."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from tasks_app.models.calendar import Calendar

DEFAULT_PROJECT = "default"
MAX_RETENTION_DAYS = 36_500


class Project(models.Model):
    """A group of tasks with common owners. The project `default` always exists."""

    name = models.SlugField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    rate_limit_runs = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="At most so many runs of all its tasks start within the span below.",
    )
    rate_limit_seconds = models.PositiveIntegerField(
        default=60, validators=[MinValueValidator(1)]
    )
    retention_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(MAX_RETENTION_DAYS)],
        help_text="Days that runs are kept, unless their task says otherwise; 0: for"
        " ever. Empty: RETENTION_DAYS.",
    )
    calendars = models.ManyToManyField(
        Calendar,
        blank=True,
        related_name="projects",
        help_text="Blackouts of its tasks.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
