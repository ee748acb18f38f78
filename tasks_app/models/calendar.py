"""Blackout calendars: when fires are skipped or postponed."""

from __future__ import annotations

from django.db import models

from tasks_app.choices import BlackoutAction


class Calendar(models.Model):
    """Windows of time, recurring or absolute, in which tasks do not fire.

    `windows` holds what `tasks_app.rules.blackout.parse_windows` takes.
    """

    name = models.SlugField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    timezone = models.CharField(max_length=64, default="UTC")
    action = models.CharField(
        max_length=10, choices=BlackoutAction, default=BlackoutAction.SKIP
    )
    windows = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
