"""Backpressure: a backlog stays in the ledger, and delays nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from tasks_app.models import Task, TaskRun
from tests.factories import make_run, make_task
from tests.services import FAST, ended, platform, until

pytestmark = pytest.mark.fault

BACKLOG = 200_000


def fill(task: Task, runs: int) -> None:
    """Queued runs of the task, as many as no API would take."""
    model = make_run(task)
    columns = ", ".join(
        f'"{field.column}"'
        for field in TaskRun._meta.local_fields
        if field.name != "id"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO tasks_app_taskrun ({columns}) SELECT {columns}"
            " FROM tasks_app_taskrun, generate_series(1, %s) WHERE id = %s",
            [runs, model.pk],
        )
        cursor.execute("ANALYZE tasks_app_taskrun")


def test_two_hundred_thousand_queued_runs_delay_no_fire_and_fill_no_broker(
    database: None, valkey_url: str, tmp_path: Path
) -> None:
    slots = {"WORKER_CONCURRENCY": "4"}
    with platform(valkey_url, tmp_path, **{**FAST, **slots}) as started:
        queue = started.queue
        others = make_task(queue=queue, command="sleep 0.2")
        fill(others, BACKLOG)
        started.beat()
        started.worker()
        backlog = others.runs
        until(lambda: backlog.filter(status="succeeded").count() > 10, started)
        every = make_task(queue=queue, interval_seconds=1, priority=9)
        urgent = make_task(queue=queue, priority=9)
        runs = []
        for _ in range(5):
            runs.append(make_run(urgent))
            assert ended(runs[-1], started).status == "succeeded"
            assert Redis.from_url(valkey_url).llen(queue) <= settings.MAX_DOORBELLS
        until(lambda: every.runs.filter(status="succeeded").count() >= 5, started)
        for run in [*runs, *every.runs.filter(status="succeeded")]:
            assert run.started_at
            before = backlog.filter(
                started_at__gt=run.created_at, started_at__lt=run.started_at
            )
            # What ran held the slots; no more than them started before it.
            assert before.count() <= 8
            assert (run.started_at - run.scheduled_for).total_seconds() < 5
        assert backlog.filter(status="queued").count() > BACKLOG * 0.9
