"""The stock way's task and its producer: three saves a run, created, running, ended.

What the product's table demands beyond that is filled with constants, so that it
costs the peer nothing.
"""

from __future__ import annotations

import subprocess

from django.utils import timezone

from scheduler_project.bench.stock import app
from scheduler_project.bench.workload import COMMAND
from tasks_app.choices import RunStatus, Trigger
from tasks_app.models import TaskRun, TaskVersion


@app.task(name="stock.run_shell")
def run_shell(run_id: int) -> None:
    run = TaskRun.objects.get(pk=run_id)
    run.status = RunStatus.RUNNING
    run.started_at = run.lease_expires_at = timezone.now()
    run.attempt = run.worker_id = 1
    run.save()
    # The same command in the same shell as the platform's shell executor.
    done = subprocess.run(["sh", "-c", COMMAND], check=False)  # noqa: S603, S607
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
            run = _run_create(version, queue)
            run_shell.apply_async((run.pk,), queue=queue, producer=producer)


def _run_create(version: TaskVersion, queue: str) -> TaskRun:
    now = timezone.now()
    return TaskRun.objects.create(
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
