"""`python -m scheduler_project.bench.trigger TASK RUNS`: trigger without the API."""

from __future__ import annotations

import sys
import time
from itertools import cycle, islice

import django


def main(task_id: int, runs: int) -> None:
    from scheduler_project.bench.latency import PAUSES_SECONDS  # noqa: PLC0415
    from tasks_app.models import Task  # noqa: PLC0415
    from tasks_app.services.runs import run_trigger  # noqa: PLC0415

    task = Task.objects.get(pk=task_id)
    for pause_seconds in islice(cycle(PAUSES_SECONDS), runs):
        run_trigger(task=task, actor="bench")
        time.sleep(pause_seconds)  # the ringer's thread rings meanwhile


if __name__ == "__main__":
    django.setup()
    main(int(sys.argv[1]), int(sys.argv[2]))
