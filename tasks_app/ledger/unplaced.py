"""Runs that no worker can take: an alert for each queue and lane in which they wait."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice

from django.conf import settings

from tasks_app.choices import AlertKind
from tasks_app.ledger.alerts import alert_raise, alert_resolve
from tasks_app.ledger.dialects import dialect, fetch
from tasks_app.ledger.eligibility import NOT_HELD, QUEUED
from tasks_app.ledger.fleet import waiting_queues, workers
from tasks_app.ledger.pruning import unfinished
from tasks_app.models import Alert, Task
from tasks_app.rules.match import WORKER_PREFIX
from tasks_app.rules.placement import WorkerView, can_take, worker_lane

GRACE_HEARTBEATS = 2
"""A worker that is being restarted has so long to come back."""
PRIORITIES = range(9, -1, -1)
RUNS_LOOKED_AT = 20
"""Of each priority, to name their tasks."""
NAMES_SHOWN = 3


def alert_unplaced() -> int:
    """Raise an alert for each queue and lane whose due runs no online worker can take,
    for a grace by now, and resolve those that one can, or in which nothing waits.

    Costs what there are queues and lanes, not what waits in them. Returns how many
    alerts were raised.
    """
    grace = GRACE_HEARTBEATS * settings.HEARTBEAT_SECONDS
    fleet = workers(missed_seconds=grace)
    raised = 0
    standing = set()
    for queue, lane in waiting_queues():
        refusals = {worker: can_take(worker, queue, lane) for worker in fleet}
        if not all(refusals.values()):
            continue
        tasks = _waiting_tasks(queue, lane, grace)
        if tasks:
            subject = _subject(queue, lane)
            standing.add(subject)
            raised += alert_raise(
                AlertKind.NO_WORKER,
                subject,
                f"{_names(tasks)}: {no_worker(queue, lane, refusals)}",
                task_id=tasks[0].pk if len(tasks) == 1 else None,
            )
    past = Alert.objects.open().filter(kind=AlertKind.NO_WORKER)
    gone = set(past.values_list("subject", flat=True)) - standing
    if gone:
        alert_resolve(AlertKind.NO_WORKER, gone)
    return raised


def no_worker(queue: str, lane: str, refusals: dict[WorkerView, str]) -> str:
    """Why none of these workers can take a run of the queue and lane, as a sentence:
    of the one that the lane names, else of those that are online."""
    told = [
        f"{worker.name}: {refusal}"
        for worker, refusal in refusals.items()
        if _is_asked(worker, lane)
    ]
    asked = f"queue {queue}" + (f", {lane}" if lane else "")
    if not told:
        is_named = lane.startswith(WORKER_PREFIX)
        none = "it is not known here" if is_named else "none is online"
        return f"no online worker can take it ({asked}): {none}"
    more = f"; and {len(told) - NAMES_SHOWN} more" if len(told) > NAMES_SHOWN else ""
    return (
        f"no online worker can take it ({asked}): {'; '.join(told[:NAMES_SHOWN])}{more}"
    )


def _is_asked(worker: WorkerView, lane: str) -> bool:
    if lane.startswith(WORKER_PREFIX):
        return lane == worker_lane(worker.name)
    return worker.is_online


def _waiting_tasks(queue: str, lane: str, seconds: float) -> list[Task]:
    """Tasks of which runs have been due here for so long: those of the first ones."""
    sql = dialect()
    due, recent = sql.later("%s"), unfinished()
    picks = " UNION ALL ".join(
        f"""
        SELECT * FROM (SELECT task_id FROM tasks_app_taskrun
            WHERE {QUEUED} AND {NOT_HELD} AND queue = %s AND lane = %s
            AND priority = {priority} AND due_at <= {due} {recent}
            ORDER BY due_at LIMIT {RUNS_LOOKED_AT}) AS p{priority}
        """
        for priority in PRIORITIES
    )
    rows = fetch(picks, *[queue, lane, -seconds] * len(PRIORITIES))
    return list(Task.objects.filter(pk__in={row[0] for row in rows}).order_by("name"))


def _names(tasks: Sequence[Task]) -> str:
    names = ", ".join(task.name for task in islice(tasks, NAMES_SHOWN))
    more = len(tasks) - NAMES_SHOWN
    return f"{names} and {more} more" if more > 0 else names


def _subject(queue: str, lane: str) -> str:
    """What the alert is about, short enough to be stored."""
    subject = f"queue:{queue} lane:{lane}" if lane else f"queue:{queue}"
    most = Alert._meta.get_field("subject").max_length or 0
    if len(subject) <= most:
        return subject
    digest = hashlib.sha256(subject.encode()).hexdigest()[:16]
    return f"{subject[: most - 17]}~{digest}"
