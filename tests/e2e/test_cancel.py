"""Cancel reaches a worker at once, whatever its heartbeat and however full it is."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from tasks_app import ledger
from tasks_app.ledger import Doorbell
from tasks_app.models import TaskRun
from tests.factories import make_run, make_task
from tests.services import platform, until, use_broker
from workers_app.dispatch import ring

SLOW = {"HEARTBEAT_SECONDS": "60", "LEASE_SECONDS": "300"}


def test_a_full_worker_learns_of_a_cancel_before_its_heartbeat(
    database: None,
    broker_url: str,
    tmp_path: Path,
    rung: list[Doorbell],
) -> None:
    with (
        platform(broker_url, tmp_path, WORKER_CONCURRENCY="1", **SLOW) as started,
        use_broker(broker_url),
    ):
        task = make_task(queue=started.queue, command="sleep 300")
        run, waiting = make_run(task), make_run(task)
        started.worker("full")
        until(partial(has_status, run.pk, "running"), started)
        # A doorbell that it holds, having no room, and will not answer.
        ring({Doorbell(started.queue, ""): 1})

        for run_id in (run.pk, waiting.pk):
            until(partial(has_status, run_id, "running"), started)
            rung.clear()
            ledger.cancel([run_id], "test")
            # Again and again: a worker that starts hears nothing before it is ready.
            until(partial(rung_until_cancelled, rung, run_id), started)


def rung_until_cancelled(rung: list[Doorbell], run_id: int) -> bool:
    ring(Counter(rung))
    return has_status(run_id, "cancelled")


def has_status(run_id: int, status: str) -> bool:
    return TaskRun.objects.filter(pk=run_id, status=status).exists()
