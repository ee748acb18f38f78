"""Alerts: what an operator should know without having asked."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tasks_app.choices import AlertKind
from tasks_app.models.task import Task


class AlertQuerySet(models.QuerySet["Alert"]):
    def open(self) -> AlertQuerySet:
        """Alerts whose cause still stands."""
        return self.filter(resolved_at__isnull=True)


class Alert(models.Model):
    """One cause for concern; raised once, however often it is seen, until resolved."""

    kind = models.CharField(max_length=20, choices=AlertKind)
    subject = models.CharField(
        max_length=300, help_text="What it is about: `task:<id>`, or a target."
    )
    task = models.ForeignKey(Task, models.CASCADE, null=True, related_name="alerts")
    message = models.TextField()
    raised_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)

    objects = AlertQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=Q(resolved_at__isnull=True),
                name="alert_open_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}"
