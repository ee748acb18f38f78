"""The stock way: Celery and Django as one first joins them, three saves a run.

Celery's defaults, its Django fixup among them, which closes the database connection
around each task. KEEP_CONNECTION=1 makes it keep the connection, and nothing else.
`python -m bench_peers.stock RUNS` creates and sends a backlog.
"""

from __future__ import annotations

import os
import sys

import django
from celery import Celery
from django.utils import timezone

from bench_peers import command_run

CHUNK = 1_000

app = Celery("bench_peers", broker=os.environ["BROKER_URL"])
if os.environ.get("KEEP_CONNECTION"):
    # Celery counts the uses of a connection up to here, and then closes it.
    app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize


@app.task(name="bench_peers.run")
def run(job_id: int) -> None:
    from bench_peers.models import Job  # noqa: PLC0415 - after Django's setup

    job = Job.objects.get(pk=job_id)
    job.status = "running"
    job.started_at = timezone.now()
    job.save()
    job.exit_code = command_run()
    job.status = "failed" if job.exit_code else "succeeded"
    job.completed_at = timezone.now()
    job.save()


def publish(runs: int) -> None:
    """Create `runs` rows, in bulk since that does not count, and a message for each."""
    from bench_peers.models import Job  # noqa: PLC0415 - after Django's setup

    jobs = Job.objects.bulk_create((Job() for _ in range(runs)), batch_size=CHUNK)
    with app.producer_pool.acquire() as producer:
        for job in jobs:
            run.apply_async((job.pk,), queue=os.environ["QUEUE"], producer=producer)


if __name__ == "__main__":
    django.setup()
    publish(int(sys.argv[1]))
