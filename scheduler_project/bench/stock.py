"""The stock way: what one writes first with Celery and Django, as the bench's peer.

A Celery application of its own with Celery's defaults, its Django fixup among them.
A run costs three saves: created, running, succeeded. The values that the product's
table demands beyond that are constants, so that they cost the peer nothing.
"""

from __future__ import annotations

import os
import subprocess

from celery import Celery
from django.conf import settings
from django.utils import timezone

from scheduler_project.bench.workload import COMMAND
from tasks_app.choices import RunStatus, Trigger
from tasks_app.models import TaskRun, TaskVersion

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_project.settings")

PROCESSES = 2
NAME = f"plain Celery task, 3 ORM saves, prefork {PROCESSES}"

# Not as current: the bench's own process keeps the product's.
app = Celery("stock", broker=settings.BROKER_URL, set_as_current=False)


@app.task(name="stock.run_shell")
def run_shell(run_id: int) -> None:
    run = TaskRun.objects.get(pk=run_id)
    run.status = RunStatus.RUNNING
    run.started_at = run.lease_expires_at = timezone.now()
    run.attempt = run.worker_id = 1
    run.save()
    done = subprocess.run(["sh", "-c", COMMAND], check=False)  # noqa: S603, S607 - as the executor does
    run.status = RunStatus.FAILED if done.returncode else RunStatus.SUCCEEDED
    run.completed_at = timezone.now()
    run.exit_code = done.returncode
    run.save()


def backlog_publish(
    version: TaskVersion, queue: str, runs: int, broker_url: str
) -> None:
    """Create `runs` runs and send a message for each."""
    with app.connection_for_write(broker_url) as connection:
        producer = app.amqp.Producer(connection)
        for _ in range(runs):
            now = timezone.now()
            run = TaskRun.objects.create(
                task_id=version.task_id,
                version=version,
                trigger=Trigger.API,
                queue=queue,
                status=RunStatus.QUEUED,
                scheduled_for=now,
                created_at=now,
                due_at=now,
                next_publish_at=now,
            )
            run_shell.apply_async((run.pk,), queue=queue, producer=producer)
