"""The row that a plain Celery task would keep of each run: no more than it needs."""

from __future__ import annotations

from django.db import models


class Job(models.Model):
    status = models.CharField(max_length=16, default="queued")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)

    objects: models.Manager[Job] = models.Manager()

    class Meta:
        app_label = "bench_peers"

    def __str__(self) -> str:
        return f"Job {self.pk}"
