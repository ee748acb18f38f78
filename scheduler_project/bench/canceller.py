"""`python -m scheduler_project.bench.canceller TASK_ID`: cancels all runs of a task,
as the product does, and rings for their workers."""

from __future__ import annotations

import os
import sys
from collections import Counter

import django


def main(task_id: int) -> None:
    from tasks_app import ledger  # noqa: PLC0415 - needs loaded apps
    from tasks_app.models import TaskRun  # noqa: PLC0415
    from tasks_app.signals import runs_ready  # noqa: PLC0415
    from workers_app.dispatch import ring  # noqa: PLC0415

    runs_ready.disconnect(dispatch_uid="workers_app.ring")  # its thread ends with us
    runs_ready.connect(_ring_now := lambda doorbells, **_: ring(Counter(doorbells)))
    unfinished = TaskRun.objects.unfinished().filter(task=task_id)
    ledger.cancel(list(unfinished.values_list("pk", flat=True)), "bench")
    runs_ready.disconnect(_ring_now)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_project.settings")
    django.setup()
    main(int(sys.argv[1]))
