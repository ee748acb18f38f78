"""Whether the ledger has kept its promises, by its own tables. Only reads.

One task after another, each by statements that see one moment of the database, and
streamed: the memory does not follow the number of runs, and others may work meanwhile.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet

from tasks_app.choices import Delivery, Overlap, RunStatus, TaskStatus, Trigger
from tasks_app.ledger.dialects import database_now
from tasks_app.models import RunEvent, Task, TaskRun, TaskVersion
from tasks_app.rules.cron import TICK
from tasks_app.rules.fire_accounts import Entry, FireAccount, Reign
from tasks_app.rules.run_histories import (
    Limit,
    Moment,
    Recorded,
    contradictions,
    excesses,
)
from tasks_app.rules.schedules import (
    CronSchedule,
    IntervalSchedule,
    OneOffSchedule,
    Schedule,
    ScheduleInvalid,
    next_fire,
)

MEANINGS = {
    "gap": ("C1", "a nominal time that has no run"),
    "duplicate": ("C1", "a nominal time that more than one run accounts for"),
    "stray": ("C1", "a scheduled run at a time that its schedule does not name"),
    "miscounted": ("C1", "a summary of skipped fires that does not add up"),
    "shards": ("C1", "a broadcast that is not one run for each of its workers"),
    "unplanned": ("C1", "due fires of an active task that nobody plans"),
    "unreadable": ("C1", "a definition whose schedule cannot be read"),
    "outcome_differs": ("C2", "a run whose row and events tell different ends"),
    "changed_after_end": ("C2", "a run that went on after its end"),
    "no_lease": ("C2", "a running run without a lease: nobody would miss it"),
    "not_expired": ("C2", "a queued run whose start deadline has long passed"),
    "started_twice": ("C4", "an at_most_once run that was started again"),
    "too_many_attempts": ("C4", "a run with more attempts than its task allows"),
    "two_outcomes": ("C5", "a run that ended more than once"),
    "overlapping_attempts": ("C6", "an attempt that began before the last one ended"),
    "not_reaped": ("C7", "a running run whose lease has long expired"),
    "past_timeout": ("C9", "a run that goes on long after its timeout"),
    "cancel_ignored": ("C9", "a run that goes on long after it was cancelled"),
    "over_limit": ("C10", "more runs at a time than the task's max_concurrency"),
}
"""Each kind of finding: the promise that it breaks (docs/promises.md), and how."""

EDGE = timedelta(seconds=1)
"""So close to a change of its definition, a fire may belong to either: the change is
stamped by the clock of the host that made it."""
UNPLANNED = timedelta(seconds=60)
"""How late planning may be: beats may be starting."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach. `at` is the nominal time, or when it showed; `last` and `count` are
    given where a range of nominal times is concerned."""

    kind: str
    task_id: int
    task: str
    text: str
    run_id: int | None = None
    at: datetime | None = None
    last: datetime | None = None
    count: int = 1


@dataclass(slots=True)
class Checked:
    """How much was looked at, and how many ends of schedules could not be."""

    tasks: int = 0
    fires: int = 0
    runs: int = 0
    events: int = 0
    unfinished: int = 0
    open_ends: int = 0
    """Tasks without a cursor whose newest fires nothing tells of: deleted ones, and
    those whose schedule was changed during a pause."""


_RUN = (
    "status",
    "start_deadline_at",
    "started_at",
    "lease_expires_at",
    "cancel_requested_at",
)


class Verifier:
    """Checks the window [since, until] of the ledger; by default, all of it.

    Runs count by their creation, fires by their nominal time, and starts (C10) by
    their own: what already ran when the window began is not counted in.
    """

    def __init__(
        self, since: datetime | None = None, until: datetime | None = None
    ) -> None:
        self.checked = Checked()
        self.now = database_now()
        self.since = since
        self.until = until or self.now
        # The reaper may hold for two leases (C13), and looks by periods.
        self._patience = timedelta(
            seconds=2 * settings.LEASE_SECONDS + 2 * settings.UPKEEP_SECONDS
        )

    def task_ids(self) -> list[int]:
        return list(Task.objects.order_by("id").values_list("id", flat=True))

    def findings(self, task_id: int) -> Iterator[Finding]:
        """What is wrong with one task and its runs."""
        # The cursor is read first: whatever it has passed is committed by then.
        task = Task.objects.select_related("history_start").get(pk=task_id)
        versions = list(task.versions.order_by("number"))
        if not versions:
            return
        self.checked.tasks += 1
        yield from self._fires(task, versions)
        yield from self._broadcasts(task)
        yield from self._runs(task, versions)
        yield from self._limits(task, versions)

    # --- C1 -------------------------------------------------------------------------
    def _fires(self, task: Task, versions: Sequence[TaskVersion]) -> Iterator[Finding]:
        try:
            reigns, reign_of = self._reigns(task, versions)
        except (ScheduleInvalid, KeyError, TypeError, ValueError) as error:
            yield _finding(task, "unreadable", str(error))
            return
        yield from self._unplanned(task, reigns[-1].schedule)
        account = FireAccount(reigns)
        for wrong in account.audit(_entries(self._planned_runs(task), reign_of)):
            text = {
                "gap": f"{wrong.count} fires have no run",
                "duplicate": "it has another run already",
                "stray": "the schedule has no such fire",
                "miscounted": f"it says {wrong.count} fires, the schedule says other",
            }[wrong.kind]
            yield Finding(
                *(wrong.kind, task.pk, task.name, text, wrong.run_id),
                *(wrong.first, wrong.last, wrong.count),
            )
        self.checked.fires += account.fires

    def _reigns(
        self, task: Task, versions: Sequence[TaskVersion]
    ) -> tuple[list[Reign], dict[int, int]]:
        """The task's schedules one after another, and by a version's id the index of
        its own. A version that left the schedule as it was goes on with it."""
        spans: list[tuple[Schedule | None, datetime]] = []
        reign_of: dict[int, int] = {}
        for version in versions:
            schedule = _schedule(version.definition)
            if not spans or spans[-1][0] != schedule:
                spans.append((schedule, version.created_at))
            reign_of[version.pk] = len(spans) - 1
        since = self._since(task)
        ends = [at - EDGE for _, at in spans[1:]] + [self._end(task, spans[-1][0])]
        return [
            Reign(
                schedule,
                max(begin + EDGE, since - TICK) if since else begin + EDGE,
                end and min(end, self.until),
            )
            for (schedule, begin), end in zip(spans, ends, strict=True)
        ], reign_of

    def _end(self, task: Task, schedule: Schedule | None) -> datetime | None:
        """Up to when the last schedule's fires are due: its cursor is the first that
        is not. Without one it is over, or nobody knows since when it rests."""
        if task.next_fire_at is not None:
            return task.next_fire_at - TICK
        if task.status == TaskStatus.ACTIVE:
            return self.now - EDGE
        if schedule is not None:
            self.checked.open_ends += 1
        return None

    def _since(self, task: Task) -> datetime | None:
        """The first fire to account for: retention has removed the runs of others."""
        start = getattr(task, "history_start", None)
        if start is None:
            return self.since
        midnight = datetime.combine(start.day, time.min, UTC)
        return max(midnight, self.since or midnight)

    def _unplanned(self, task: Task, schedule: Schedule | None) -> Iterator[Finding]:
        if task.status != TaskStatus.ACTIVE or schedule is None:
            return
        cursor, late = task.next_fire_at, self.now - UNPLANNED
        if cursor is not None and cursor < late:
            text = "the planner has not come to this fire: does a beat live?"
            yield _finding(task, "unplanned", text, at=cursor)
        elif cursor is None and (coming := next_fire(schedule, self.now)):
            text = "the schedule goes on, but the task has no next fire"
            yield _finding(task, "unplanned", text, at=coming)

    def _planned_runs(self, task: Task) -> QuerySet[TaskRun]:
        runs = TaskRun.objects.filter(task=task, trigger=Trigger.SCHEDULE)
        if task.next_fire_at is not None:
            runs = runs.filter(scheduled_for__lt=task.next_fire_at)
        if (since := self._since(task)) is not None:
            runs = runs.filter(scheduled_for__gte=since)
        return runs.filter(scheduled_for__lte=self.until)

    def _broadcasts(self, task: Task) -> Iterator[Finding]:
        """A fire with several runs has one for each of its workers."""
        rows = (
            self._planned_runs(task)
            .filter(shard_total__gt=1)
            .order_by("scheduled_for", "shard_index")
            .values_list("scheduled_for", "shard_index", "shard_total")
        )
        for at, shards in groupby(rows.iterator(), itemgetter(0)):
            found = list(shards)
            if [shard[1] for shard in found] != list(range(found[0][2])):
                text = f"{len(found)} of {found[0][2]} runs are there"
                yield _finding(task, "shards", text, at=at)

    # --- C2, C4, C5, C6, C7, C9 -----------------------------------------------------
    def _runs(self, task: Task, versions: Sequence[TaskVersion]) -> Iterator[Finding]:
        """One statement for runs and events: both are of the same moment. A run of a
        version that is newer than what was read is left to the next time."""
        rules_of = {version.pk: version.definition for version in versions}
        newest = versions[-1].pk
        runs = TaskRun.objects.filter(
            task=task, created_at__lte=self.until, version__lte=newest
        )
        if self.since is not None:
            runs = runs.filter(created_at__gte=self.since)
        # The columns of the run, then those of one of its events, if it has any.
        rows = runs.order_by("id", "events__id").values_list(
            *("id", "version_id", *_RUN),
            *("events__kind", "events__attempt", "events__status", "events__at"),
        )
        for (run_id, version_id), group in groupby(rows.iterator(), itemgetter(0, 1)):
            found = list(group)
            moments = [Moment(*row[-4:]) for row in found if row[-4] is not None]
            self.checked.runs += 1
            self.checked.events += len(moments)
            run = dict(zip(("id", "version_id", *_RUN), found[0], strict=False))
            rules = rules_of[version_id]
            recorded = Recorded(
                status=run["status"],
                is_at_most_once=rules["delivery"] == Delivery.AT_MOST_ONCE,
                max_attempts=rules["max_attempts"],
            )
            for wrong in contradictions(recorded, moments):
                yield _finding(task, wrong.kind, wrong.text, run_id, wrong.at)
            yield from self._overdue(task, run, rules)

    def _overdue(
        self, task: Task, run: Mapping[str, Any], rules: Mapping[str, Any]
    ) -> Iterator[Finding]:
        """The deadlines that an unfinished run has outlived."""
        if run["status"] not in {RunStatus.QUEUED, RunStatus.RUNNING}:
            return
        self.checked.unfinished += 1
        deadlines = {"not_expired": run["start_deadline_at"]}
        if run["status"] == RunStatus.RUNNING:
            if run["lease_expires_at"] is None:
                yield _finding(task, "no_lease", "it has no lease", run["id"])
            grace = timedelta(seconds=settings.CANCEL_GRACE_SECONDS)
            timeout = timedelta(seconds=rules["timeout_seconds"])
            deadlines = {
                "not_reaped": run["lease_expires_at"],
                "past_timeout": run["started_at"] and run["started_at"] + timeout,
                "cancel_ignored": run["cancel_requested_at"]
                and run["cancel_requested_at"] + grace,
            }
        for kind, deadline in deadlines.items():
            if deadline is not None and deadline + self._patience < self.now:
                text = f"it is {run['status']}, and the deadline was then"
                yield _finding(task, kind, text, run["id"], deadline)

    # --- C10 ------------------------------------------------------------------------
    def _limits(self, task: Task, versions: Sequence[TaskVersion]) -> Iterator[Finding]:
        limits = _concurrency(versions)
        if all(limit.runs is None for limit in limits):
            return
        events = RunEvent.objects.filter(
            run__task=task,
            kind__in=["started", "retried", "finished"],
            at__lte=self.until,
        )
        if self.since is not None:
            events = events.filter(at__gte=self.since)
        rows = events.order_by("at", "id").values_list(
            "run_id", "kind", "attempt", "status", "at"
        )
        moments = ((row[0], Moment(*row[1:])) for row in rows.iterator())
        for wrong in excesses(limits, moments):
            text = f"{wrong.runs} runs ran, the limit is {wrong.limit}"
            yield _finding(task, "over_limit", text, wrong.run_id, wrong.at)


def _finding(
    task: Task,
    kind: str,
    text: str,
    run_id: int | None = None,
    at: datetime | None = None,
) -> Finding:
    return Finding(kind, task.pk, task.name, text, run_id, at)


def _schedule(definition: Mapping[str, Any]) -> Schedule | None:
    """A version's schedule, as `tasks_app.services.schedules` records it."""
    values = definition["schedule"]
    if values is None:
        return None
    times = {
        name: datetime.fromisoformat(values[name])
        for name in ("at", "start_at", "end_at")
        if values.get(name)
    }
    if "cron" in values:
        return CronSchedule(values["cron"], definition["timezone"], **times)
    if "interval_seconds" in values:
        anchor = times.pop("start_at")
        return IntervalSchedule(values["interval_seconds"], anchor, **times)
    return OneOffSchedule(times["at"])


def _entries(runs: QuerySet[TaskRun], reign_of: Mapping[int, int]) -> Iterator[Entry]:
    """What the runs account for, in the order of their first fires.

    A run of a version that is newer than what was read lies beyond the cursor.
    """
    is_summary = Q(status=RunStatus.SKIPPED, result__skipped__isnull=False)
    single = (
        runs.exclude(pk__in=runs.filter(is_summary).values("pk"))
        .filter(shard_index=0)
        .order_by("scheduled_for", "id")
        .values_list("id", "version_id", "scheduled_for")
    )
    fires = (
        Entry(run_id, reign_of[version], at, at)
        for run_id, version, at in single.iterator()
        if version in reign_of
    )
    summaries = runs.filter(is_summary).values_list("id", "version_id", "result")
    spans = [
        Entry(
            *(run_id, reign_of[version], datetime.fromisoformat(result["first"])),
            *(datetime.fromisoformat(result["last"]), result["skipped"]),
        )
        for run_id, version, result in summaries
        if result is not None and version in reign_of
    ]
    by_first = attrgetter("first")
    return heapq.merge(fires, sorted(spans, key=by_first), key=by_first)


def _concurrency(versions: Sequence[TaskVersion]) -> list[Limit]:
    """The task's limits one after another; at a change, the higher one counts."""
    limits: list[Limit] = []
    for version in versions:
        rules = version.definition
        runs = rules.get("max_concurrency")
        if runs is None and rules.get("overlap", Overlap.ALLOW) != Overlap.ALLOW:
            runs = 1
        is_lower = bool(limits) and (limits[-1].runs or 10**9) > (runs or 10**9)
        limits.append(Limit(version.created_at + (EDGE if is_lower else -EDGE), runs))
    return limits
