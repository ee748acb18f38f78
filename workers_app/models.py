"""The fleet: who works, and which beat is elected."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _


class WorkerStatus(models.TextChoices):
    ONLINE = "online", _("Online")
    BUSY = "busy", _("Busy")
    OFFLINE = "offline", _("Offline")


SHOWN_STATUSES = [*WorkerStatus.choices, ("draining", _("Draining"))]
"""The statuses that people see: a worker may be draining whatever else it is."""


class WorkerInfoQuerySet(models.QuerySet["WorkerInfo"]):
    def alive(self) -> WorkerInfoQuerySet:
        return self.exclude(status=WorkerStatus.OFFLINE)

    def silent(self, since: datetime) -> WorkerInfoQuerySet:
        """Workers that claim to live and have sent no heartbeat since."""
        return self.alive().filter(last_heartbeat__lt=since)


class WorkerInfo(models.Model):
    """One worker process, as its heartbeat tells of it.

    A worker keeps its row over restarts: the name is its identity.
    """

    name = models.CharField(max_length=200, unique=True)
    status = models.CharField(
        max_length=10, choices=WorkerStatus, default=WorkerStatus.ONLINE
    )
    last_heartbeat = models.DateTimeField()
    started_at = models.DateTimeField()
    is_draining = models.BooleanField(
        default=False, help_text="Claims nothing new, and finishes what it has."
    )
    current_tasks = models.PositiveIntegerField(default=0)
    max_tasks = models.PositiveIntegerField()
    queues = models.JSONField(default=list)
    tags = models.JSONField(default=list, blank=True)
    version = models.CharField(max_length=50, blank=True)
    host = models.JSONField(
        default=dict, blank=True, help_text="Host name, process id, processors, load."
    )

    runs_held: int
    """Where `workers_app.draining.with_runs_held` has looked."""

    objects = WorkerInfoQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("worker")

    def __str__(self) -> str:
        return self.name

    @property
    def shown_status(self) -> str:
        is_alive = self.status != WorkerStatus.OFFLINE
        return "draining" if self.is_draining and is_alive else self.status


class Leadership(models.Model):
    """A duty that one process does at a time, held on a lease by the database's clock.

    Only for what the ledger does not already make safe for many: the stock
    django-celery-beat entries, which would fire once per beat.
    """

    duty = models.CharField(max_length=50, primary_key=True)
    holder = models.CharField(max_length=200)
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "leaderships"

    def __str__(self) -> str:
        return f"{self.duty}: {self.holder}"
