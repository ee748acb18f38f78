"""How the platform is: what the dashboard and `/stats` tell, from one function.

Past runs are summed from the hourly roll-ups, unfinished ones counted by their indexes
and no further than MAX_COUNTED: nothing here grows with the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, Sum

from tasks_app import ledger
from tasks_app.choices import RunStatus, TaskStatus
from tasks_app.models import Alert, RunTally, Task, TaskRun
from tasks_app.rules.states import FAILURES

HOURS = 24
HOUR = timedelta(hours=1)
MAX_COUNTED = 10_000
LATE_AFTER = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class HourOfRuns:
    """The runs that ended in the hour from `hour` on, by status."""

    hour: datetime
    ended: Mapping[str, int]

    @property
    def succeeded(self) -> int:
        return self.ended.get(RunStatus.SUCCEEDED, 0)

    @property
    def failed(self) -> int:
        return sum(self.ended.get(status, 0) for status in FAILURES)

    @property
    def other(self) -> int:
        """Skipped, or cancelled."""
        return sum(self.ended.values()) - self.succeeded - self.failed


@dataclass(frozen=True, slots=True)
class Stats:
    """`queued` and `running` count up to MAX_COUNTED, and then no further. `hours`: the
    last HOURS, oldest first, the last one not over yet. `failing`: the tasks with
    failures in them, and how many, the worst first."""

    at: datetime
    tasks_active: int
    tasks_paused: int
    tasks_late: int
    queued: int
    running: int
    hours: Sequence[HourOfRuns]
    failing: Mapping[int, int]
    workers_online: int
    workers_known: int
    alerts_open: int

    @property
    def succeeded(self) -> int:
        return sum(hour.succeeded for hour in self.hours)

    @property
    def failed(self) -> int:
        return sum(hour.failed for hour in self.hours)

    @property
    def success_percent(self) -> float | None:
        """Of the runs that came to an end of their own; None if none did."""
        ended = self.succeeded + self.failed
        return 100 * self.succeeded / ended if ended else None


def stats() -> Stats:
    """How it is now."""
    now = ledger.database_now()
    tasks = Task.objects.existing().aggregate(
        active=Count("pk", filter=Q(status=TaskStatus.ACTIVE)),
        paused=Count("pk", filter=Q(status=TaskStatus.PAUSED)),
    )
    workers = ledger.workers()
    first = now.replace(minute=0, second=0, microsecond=0) - (HOURS - 1) * HOUR
    return Stats(
        at=now,
        tasks_active=tasks["active"],
        tasks_paused=tasks["paused"],
        tasks_late=_late(now),
        queued=_counted(RunStatus.QUEUED),
        running=_counted(RunStatus.RUNNING),
        hours=_hours(first),
        failing=_failing(first),
        workers_online=sum(worker.is_online for worker in workers),
        workers_known=len(workers),
        alerts_open=Alert.objects.open().count(),
    )


def _late(now: datetime) -> int:
    late = Task.objects.due(now - LATE_AFTER)
    return late.order_by()[:MAX_COUNTED].count()


def _counted(status: str) -> int:
    return TaskRun.objects.filter(status=status).order_by()[:MAX_COUNTED].count()


def _hours(first: datetime) -> list[HourOfRuns]:
    ended: dict[datetime, Counter[str]] = {
        first + number * HOUR: Counter() for number in range(HOURS)
    }
    for hour, status, runs in ledger.ended_by_hour(first):
        if hour in ended:  # the next hour may just have begun
            ended[hour][status] += runs
    return [HourOfRuns(hour, counts) for hour, counts in ended.items()]


def _failing(first: datetime) -> dict[int, int]:
    sums = (
        RunTally.objects.filter(hour__gte=first, status__in=FAILURES)
        .order_by()
        .values_list("task")
        .annotate(sum=Sum("runs"))
        .order_by("-sum", "task")
    )
    return dict(sums)
