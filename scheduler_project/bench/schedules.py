"""Many schedules: what a fire costs beat, how late fires start, what an edit writes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django_celery_beat.models import (
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
)

from scheduler_project.bench import process
from scheduler_project.bench.burst import definition, tasks_create
from scheduler_project.bench.latency import delay_rows
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import COMMAND, runs_delete
from scheduler_project.local.supervisor import Supervisor
from tasks_app import ledger
from tasks_app.choices import RunStatus
from tasks_app.ledger.dialects import fetch
from tasks_app.models import Project, Task, TaskRun, TaskVersion
from tasks_app.services.schedules import ScheduleInput, schedule_values
from tasks_app.services.tasks import UNCHANGED, Unchanged, task_update

FIRES_PER_SECOND = 167
"""10,000 a minute."""
WATCH_SECONDS = 30
SETTLE_SECONDS = 5
"""Before a figure counts: caches fill."""
CATCH_UP_SECONDS = 120.0
LATE_SECONDS = 1
"""What came due while the tasks were defined, a hundred seconds for 100,000, is worked
off first: a run that has waited for so long is of that time."""
BURST_TASKS = 1000
BURST_LEAD_SECONDS = 5
BURST_SECONDS = START_SECONDS = 60.0
"""A measurement gives up after so long."""
BATCH = 1000
MINUTES_PER_DAY = 1440

TARGET_FIRE_MS = 0.5
TARGET_BEAT_MB = 80
TARGET_START_SECONDS = 2
TARGETS_MS = {50: None, 99: 50.0}
TARGET_BURST_SECONDS = 1.5


def schedules(rig: Rig, *, tasks: int) -> Iterator[Row]:
    """Have `tasks` active tasks, half of them daily crons and half intervals that come
    due FIRES_PER_SECOND a second, evenly, with one beat and one worker; yields the
    figures. Fires that come evenly cost most; BURST_TASKS then come all at once.

    CPU is the process's own, user and system, so load of others counts little;
    lateness and start-up are wall time.
    """
    runs_delete()
    with rig.queue() as queue, rig.services() as services:
        rig.plan.tell(f"Defining {tasks:,} tasks ...")
        tasks_define(queue, tasks)
        yield from _edit_rows(queue)
        rig.start_workers(services, queue, 1)
        yield _start_row(rig, services)
        yield from _steady_rows(services)
        yield from _burst_rows(queue, services)


def tasks_define(queue: str, count: int) -> None:
    """Define `count` active tasks in bulk, as `task_create` would one by one: every
    second one an interval whose fires are spread evenly, the others daily crons."""
    period = max(1, round(count / 2 / FIRES_PER_SECOND))
    interval = IntervalSchedule.objects.create(every=period, period="seconds")
    crons = CrontabSchedule.objects.bulk_create(
        CrontabSchedule(minute=str(minute % 60), hour=str(minute // 60))
        for minute in range(MINUTES_PER_DAY)
    )
    start = ledger.database_now() - timedelta(seconds=period)
    for first in range(0, count, BATCH):
        rows = [
            _cron_row(queue, number, crons[number // 2 % MINUTES_PER_DAY])
            if number % 2
            else PeriodicTask(
                name=f"{queue}-{number}",
                task="gnomon.doorbell",
                interval=interval,
                start_time=start + timedelta(seconds=period * number / count),
            )
            for number in range(first, min(first + BATCH, count))
        ]
        _batch_define(queue, PeriodicTask.objects.bulk_create(rows))
    # As autovacuum and the checkpointer would within minutes: what is yet to be done
    # for this load would be in the figures of the fires.
    fetch("VACUUM (ANALYZE)")
    fetch("CHECKPOINT")


def _cron_row(queue: str, number: int, cron: CrontabSchedule) -> PeriodicTask:
    name = f"{queue}-{number}"
    return PeriodicTask(name=name, task="gnomon.doorbell", crontab=cron)


def _batch_define(queue: str, rows: Sequence[PeriodicTask]) -> None:
    now = ledger.database_now()
    project = Project.objects.get(name="default")
    tasks = [
        Task(
            project=project,
            name=row.name,
            executor="shell",
            command=COMMAND,
            queue=queue,
            schedule=row,
        )
        for row in rows
    ]
    rules = [task.schedule_rule() for task in tasks]
    for task, rule in zip(tasks, rules, strict=True):
        task.next_fire_at = rule.next(now) if rule else None
    Task.objects.bulk_create(tasks)
    TaskVersion.objects.bulk_create(
        TaskVersion(
            task=task,
            number=1,
            definition={**definition(task), "schedule": schedule_values(rule)},
            created_at=now,
        )
        for task, rule in zip(tasks, rules, strict=True)
    )


def _edit_rows(queue: str) -> Iterator[Row]:
    task = Task.objects.filter(queue=queue, schedule__interval__isnull=False)[0]
    # The first edit gives the row of the bulk the form that the service writes.
    task_update(task_id=task.pk, values={"description": "first"})
    daily = ScheduleInput(interval_seconds=86_400)
    yield _edit_row("description", task, 1, description="changed")
    yield _edit_row("command", task, 2, command="echo")  # and a version
    yield _edit_row("schedule", task, 3, schedule=daily)  # and its PeriodicTask


def _edit_row(
    what: str,
    task: Task,
    target: int,
    schedule: ScheduleInput | Unchanged = UNCHANGED,
    **values: str,
) -> Row:
    """How many rows one edit writes, by PostgreSQL's count of this transaction."""
    with transaction.atomic():
        before = _rows_written()
        task_update(task_id=task.pk, values=values, schedule=schedule)
        rows = _rows_written() - before
    return Row(f"Rows written by a new {what}", rows, "rows", target, is_delay=True)


def _rows_written() -> float:
    """By this connection, since PostgreSQL last put its counts aside."""
    ((rows,),) = fetch(
        "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_xact_user_tables"
    )
    return float(rows)


def _start_row(rig: Rig, services: Supervisor) -> Row:
    began = ledger.database_now()
    rig.start_beat(services)
    services.wait_until(TaskRun.objects.exists, "the first fire", START_SECONDS)
    first = TaskRun.objects.order_by("created_at").values_list("created_at")[0][0]
    name = "Beat's start to its first fire"
    seconds = (first - began).total_seconds()
    return Row(name, seconds, "s", TARGET_START_SECONDS, is_delay=True)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A moment, and the CPU that beat had used by then."""

    at: datetime
    cpu_seconds: float


def _mark(beat: int) -> _Mark:
    return _Mark(ledger.database_now(), process.cpu_seconds(beat))


def _steady_rows(services: Supervisor) -> Iterator[Row]:
    beat = process.child("beat")
    services.wait_until(_is_caught_up, "the end of the backlog", CATCH_UP_SECONDS)
    _watch(services, SETTLE_SECONDS)
    began = _mark(beat)
    _watch(services, WATCH_SECONDS)
    ended = _mark(beat)
    memory = process.memory_mb(beat)
    _watch(services, SETTLE_SECONDS)
    fires = TaskRun.objects.filter(
        scheduled_for__gte=began.at, scheduled_for__lt=ended.at
    )
    waiting = fires.filter(started_at=None)
    services.wait_until(
        lambda: not waiting.exists(), "the start of the last fire", CATCH_UP_SECONDS
    )
    spent_ms = (ended.cpu_seconds - began.cpu_seconds) * 1000 / fires.count()
    yield Row("Beat's CPU a fire", spent_ms, "ms", TARGET_FIRE_MS, is_delay=True)
    yield Row("Beat's memory", memory, "MB", TARGET_BEAT_MB, is_delay=True)
    name = "Nominal time to start"
    yield from delay_rows(name, _late_ms(fires, "started_at"), TARGETS_MS)
    name = "Nominal time to its row"
    yield from delay_rows(name, _late_ms(fires, "created_at"), {99: None})


def _is_caught_up() -> bool:
    """Whether no task's fire, and no run, is late."""
    recent = ledger.database_now() - timedelta(seconds=LATE_SECONDS)
    late = TaskRun.objects.filter(status=RunStatus.QUEUED, scheduled_for__lt=recent)
    return not (Task.objects.due(recent).exists() or late.exists())


def _late_ms(fires: QuerySet[TaskRun], column: str) -> list[float]:
    rows = fires.values_list("scheduled_for", column)
    return [(at - nominal).total_seconds() * 1000 for nominal, at in rows]


def _watch(services: Supervisor, seconds: float) -> None:
    """Let it run, with an eye on the services."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        services.wait(left)


def _burst_rows(queue: str, services: Supervisor) -> Iterator[Row]:
    """The other fires go on meanwhile, and count as well."""
    beat = process.child("beat")
    due_at = ledger.database_now() + timedelta(seconds=BURST_LEAD_SECONDS)
    due_at = due_at.replace(microsecond=0)
    tasks_create(queue, BURST_TASKS, due_at, name="burst")
    started = TaskRun.objects.filter(
        task__name__startswith="burst", started_at__gt=due_at
    )
    _watch(services, (due_at - ledger.database_now()).total_seconds())
    began = _mark(beat)
    services.wait_until(
        lambda: started.count() == BURST_TASKS, "the burst", BURST_SECONDS
    )
    ended = _mark(beat)
    last = started.latest("started_at").started_at or due_at
    at_once = f"{BURST_TASKS:,} more due at once"
    seconds = (last - due_at).total_seconds()
    name = f"{at_once}, all started after"
    yield Row(name, seconds, "s", TARGET_BURST_SECONDS, is_delay=True)
    fires = TaskRun.objects.filter(
        created_at__gte=began.at, created_at__lt=ended.at
    ).count()
    spent_ms = (ended.cpu_seconds - began.cpu_seconds) * 1000 / fires
    name = f"Beat's CPU a fire, {at_once}"
    yield Row(name, spent_ms, "ms", TARGET_FIRE_MS, is_delay=True)
