"""What bounds runs beyond their task: queues, rates and circuit breakers."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models

from tasks_app.choices import BreakerState


class Queue(models.Model):
    """A queue that has a limit. A queue without a row here has none."""

    name = models.CharField(max_length=100, primary_key=True)
    description = models.TextField(blank=True)
    max_concurrency = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Runs of this queue that run at a time, on all workers together.",
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RateStart(models.Model):
    """A start that a rate limit counts; `scope` is `task:<id>` or `project:<id>`.

    Only limited tasks and projects have these rows, and only those of their span.
    """

    scope = models.CharField(max_length=40)
    at = models.DateTimeField()

    class Meta:
        indexes = [
            # Admission: how many starts are within the span?
            models.Index(fields=["scope", "at"], name="rate_start_in_span"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.at}"


class Breaker(models.Model):
    """The circuit breaker of one target of HTTP tasks, shared by all workers.

    A target without a row has not failed lately.
    """

    target = models.CharField(max_length=300, primary_key=True)
    state = models.CharField(
        max_length=10, choices=BreakerState, default=BreakerState.CLOSED
    )
    failures = models.PositiveIntegerField(default=0, help_text="In a row.")
    opened_at = models.DateTimeField(null=True)
    probe_run_id = models.BigIntegerField(null=True)

    class Meta:
        ordering = ["target"]

    def __str__(self) -> str:
        return f"{self.target}: {self.state}"
