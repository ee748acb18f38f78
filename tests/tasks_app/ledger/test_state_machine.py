"""C1, C2, C4, C5 and C10 after every step of any history: planners, workers that die
and come back, people who change their mind, and a clock that stands until it is moved.

`GNOMON_HYPOTHESIS=thorough` looks at random histories, longer ones and many more.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.db.models import Count, Q
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tasks_app import ledger
from tasks_app.errors import TooManyQueuedRuns
from tasks_app.ledger import (
    Beat,
    CancelAnswer,
    Claimant,
    ClaimedRun,
    Doorbell,
    Finish,
    Lease,
    NewRun,
)
from tasks_app.ledger.dialects import _DIALECTS, Dialect, PostgreSQL, SQLite
from tasks_app.models import Breaker, RateStart, RunEvent, Task, TaskRun
from tasks_app.rules.retry import retry_decision
from tasks_app.rules.states import TERMINAL
from tasks_app.services.runs import run_cancel, run_trigger
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import (
    task_delete,
    task_pause,
    task_resume,
    task_update,
)
from tests.factories import ask, backdate, make_run, make_task, make_worker
from tests.tasks_app.ledger.test_tallies import (
    counted,
    counted_by_hour,
    told,
    told_by_hour,
)

_QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much]
PROFILES = {
    "": settings(
        max_examples=30,
        stateful_step_count=30,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],  # `thorough` also shrinks, which takes minutes
        suppress_health_check=_QUIET,
    ),
    "thorough": settings(
        max_examples=3000,
        stateful_step_count=80,
        deadline=None,
        suppress_health_check=_QUIET,
        print_blob=True,
    ),
}
BEGIN = datetime(2031, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
"""No whole second: Django writes those to SQLite without their six digits."""
TARGET = "target.test:443"


class FrozenPostgreSQL(PostgreSQL):
    def move_to(self, at: datetime) -> None:
        self.now = f"TIMESTAMPTZ '{at.isoformat()}'"


class FrozenSQLite(SQLite):
    def move_to(self, at: datetime) -> None:
        self.now = f"'{at:%Y-%m-%d %H:%M:%S.%f}'"

    def later(self, seconds: str) -> str:
        form = "'%%Y-%%m-%%d %%H:%%M:%%f'"
        return f"(strftime({form}, {self.now}, ({seconds}) || ' seconds') || '000')"


@dataclass
class Span:
    """While the schedule was in force: every fire after `begin` up to `end` is due."""

    anchor: datetime
    period: int
    begin: datetime
    end: datetime | None = None

    def fires(self, until: datetime) -> Iterator[datetime]:
        """By plain counting, and not by the rules under test."""
        passed = (self.begin - self.anchor) // timedelta(seconds=self.period)
        at = self.anchor + timedelta(seconds=self.period * (passed + 1))
        while at <= until:
            yield at
            at += timedelta(seconds=self.period)


@dataclass
class Defined:
    """A task as its owner knows it."""

    pk: int
    paused_at: datetime | None = None
    spans: list[Span] = field(default_factory=list)
    child: int | None = None


@dataclass
class Working:
    """A worker, and the attempts that it believes to hold."""

    pk: int
    held: list[ClaimedRun] = field(default_factory=list)


limits = st.fixed_dictionaries(
    {
        "overlap": st.sampled_from(["allow", "skip", "queue", "replace"]),
        "max_concurrency": st.sampled_from([1, 1, 2]),
        "max_queued": st.sampled_from([None, None, 3]),
        "rate_limit_runs": st.sampled_from([None, None, None, 2]),
    }
).map(
    lambda values: (
        {**values, "max_concurrency": None} if values["overlap"] == "allow" else values
    )
)
tasks = st.fixed_dictionaries(
    {
        "interval_seconds": st.sampled_from([None, 10, 60]),
        "misfire": st.sampled_from(["latest", "all", "none"]),
        "priority": st.sampled_from([0, 5, 9]),
        "max_attempts": st.sampled_from([1, 1, 3]),
        "retry_initial_seconds": st.sampled_from([0, 20]),
        "start_deadline_seconds": st.sampled_from([None, None, 45]),
    }
)


class Histories(RuleBasedStateMachine):
    """Each rule is a step; `self.now` is the only clock there is."""

    def __init__(self) -> None:
        super().__init__()
        self._atomic = transaction.atomic()
        self._atomic.__enter__()
        self.now = BEGIN
        self.tasks: list[Defined] = []
        self.workers: list[Working] = []
        self.orphans: list[ClaimedRun] = []
        """Attempts whose worker died, or was told that they are no longer its own."""
        self.ended: dict[int, tuple[Any, ...]] = {}
        self.running: Counter[int] = Counter()
        self.unfinished: Counter[int] = Counter()
        self._move_clock(0)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self._atomic.__exit__(None, None, None)

    def _move_clock(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        _DIALECTS[connection.vendor].move_to(self.now)  # type: ignore[attr-defined]

    # --- arrange --------------------------------------------------------------------
    @initialize(first=tasks, first_limits=limits, second=tasks, second_limits=limits)
    def begin(
        self,
        first: dict[str, Any],
        first_limits: dict[str, Any],
        second: dict[str, Any],
        second_limits: dict[str, Any],
    ) -> None:
        self.workers = [Working(make_worker(f"machine-{n}").pk) for n in range(3)]
        self._define({**first, **first_limits})
        self._define({**second, **second_limits})
        calling = self._define({})
        Task.objects.filter(pk=calling.pk).update(target=TARGET)
        calling.child = make_task(Task.objects.get(pk=calling.pk)).pk

    def _define(self, values: dict[str, Any]) -> Defined:
        given = {name: value for name, value in values.items() if value is not None}
        task = Defined(make_task(**given).pk)
        if period := given.get("interval_seconds"):
            self._open(task, period)
        self.tasks.append(task)
        return task

    def _open(self, task: Defined, period: int) -> None:
        anchor = self.now.replace(microsecond=0)
        task.spans.append(Span(anchor, period, self.now))

    def _close(self, task: Defined, at: datetime) -> None:
        if task.spans and task.spans[-1].end is None:
            task.spans[-1].end = at

    def _task(self, index: int) -> Defined:
        return self.tasks[index % len(self.tasks)]

    # --- the clock, beat ------------------------------------------------------------
    @rule(seconds=st.sampled_from([0.5, 5, 11, 31, 61, 200, 1900]))
    def time_passes(self, seconds: float) -> None:
        self._move_clock(seconds)

    @rule()
    def beat_plans(self) -> None:
        ledger.plan()
        for row in Task.objects.filter(status="active", schedule__isnull=False):
            assert row.next_fire_at
            assert row.next_fire_at > self.now, f"{row} has a due fire: {vars(row)}"

    @rule()
    def two_beats_plan(self) -> None:
        """The second read its cursors before the first had moved them."""
        stale = dict(Task.objects.values_list("id", "next_fire_at"))
        ledger.plan()
        moved = dict(Task.objects.values_list("id", "next_fire_at"))
        for pk, cursor in stale.items():
            Task.objects.filter(pk=pk).update(next_fire_at=cursor)
        assert ledger.plan().run_ids == []
        assert dict(Task.objects.values_list("id", "next_fire_at")) == moved

    @rule()
    def beat_reaps(self) -> None:
        overdue = set(self._runs(status="running", lease_expires_at__lt=self.now))
        assert ledger.reap() == len(overdue)
        assert not overdue & set(self._runs(status="running"))

    @rule()
    def beat_expires(self) -> None:
        late = Q(start_deadline_at__lte=self.now, status="queued")
        overdue = list(TaskRun.objects.filter(late).values_list("id", flat=True))
        assert ledger.expire() == len(overdue)
        assert self._runs(pk__in=overdue, status="expired") == sorted(overdue)

    @rule()
    def beat_admits(self) -> None:
        ledger.probe()
        ledger.admit_waiting()
        for task_id in self._tasks_of(status="queued", admission="held"):
            due = self._runs(
                task=task_id, status="queued", admission="held", due_at__lte=self.now
            )
            assert not due or self._room(task_id) == 0, f"run {due[0]} has room"

    # --- workers --------------------------------------------------------------------
    @rule(index=st.integers(0, 2), limit=st.sampled_from([1, 2, 20]))
    def worker_claims(self, index: int, limit: int) -> None:
        worker = self.workers[index]
        expected = list(
            TaskRun.objects.filter(status="queued", due_at__lte=self.now)
            .exclude(admission="held")
            .exclude(start_deadline_at__lte=self.now)
            .order_by("-priority", "due_at", "id")
            .values_list("id", flat=True)[:limit]
        )
        claimed = ledger.claim(Claimant(worker.pk, ("default",)), limit)
        assert [run.run_id for run in claimed] == expected
        worker.held += claimed

    @rule()
    def a_doubled_doorbell_finds_nothing(self) -> None:
        first, second, _ = self.workers
        first.held += ledger.claim(Claimant(first.pk, ("default",)), 500)
        assert ledger.claim(Claimant(second.pk, ("default",)), 500) == []

    @rule(index=st.integers(0, 2))
    def worker_beats(self, index: int) -> None:
        worker = self.workers[index]
        current = self._current()
        asked = set(self._runs(cancel_requested_at__isnull=False))
        answer = ledger.heartbeat(
            Beat(worker.pk, "online", len(worker.held)),
            [Lease(run.run_id, run.attempt) for run in worker.held],
        )
        lost = [r for r in worker.held if current.get(r.run_id) != r.attempt]
        kept = [r for r in worker.held if r not in lost]
        assert answer.gone == {run.run_id for run in lost}
        assert answer.cancel == {run.run_id for run in kept} & asked
        worker.held = kept
        self.orphans += lost
        for run in kept:
            if run.run_id in answer.cancel:
                self._finish(worker, run, "cancelled")

    @rule(index=st.integers(0, 2))
    def worker_dies(self, index: int) -> None:
        worker = self.workers[index]
        self.orphans += worker.held
        worker.held = []

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(
        pick=st.integers(0, 50),
        status=st.sampled_from(["succeeded", "failed", "timed_out"]),
    )
    def worker_finishes(self, pick: int, status: str) -> None:
        held = [(worker, run) for worker in self.workers for run in worker.held]
        self._finish(*held[pick % len(held)], status)

    def _finish(self, worker: Working, run: ClaimedRun, status: str) -> None:
        worker.held.remove(run)
        self._tell(run, status)

    @precondition(lambda self: self.orphans)
    @rule(pick=st.integers(0, 50), is_told_again=st.booleans())
    def a_late_result_comes(self, pick: int, is_told_again: bool) -> None:  # noqa: FBT001
        run = self.orphans[pick % len(self.orphans)]
        if not is_told_again:
            self.orphans.remove(run)
        self._tell(run, "succeeded")

    def _tell(self, run: ClaimedRun, status: str) -> None:
        """Tell an end; it counts only if the run is running this very attempt."""
        retry = retry_decision(
            status=status,
            attempt=run.attempt,
            max_attempts=run.definition["max_attempts"],
            initial_seconds=run.definition["retry_initial_seconds"],
            max_seconds=run.definition["retry_max_seconds"],
            random=lambda: 0.5,
        )
        is_current = self._current().get(run.run_id) == run.attempt
        stale = RunEvent.objects.filter(run=run.run_id, kind="stale_result").count()
        before = TaskRun.objects.values().get(pk=run.run_id)
        done = Finish(
            *(run.run_id, run.attempt, status),
            reason="timeout" if status == "timed_out" else "",
            retry_seconds=retry.delay_seconds if retry else None,
        )
        accepted = ledger.finish([done])
        after = TaskRun.objects.values().get(pk=run.run_id)
        if is_current:
            assert accepted == {done.lease}
            assert after["status"] in {status, "queued"}
        else:
            is_repeated = (before["status"], before["attempt"]) == (status, run.attempt)
            assert before == after
            assert bool(accepted) == is_repeated
            late = RunEvent.objects.filter(run=run.run_id, kind="stale_result")
            assert late.count() == stale + (not is_repeated)

    # --- people ---------------------------------------------------------------------
    @rule(index=st.integers(0, 3))
    def person_triggers(self, index: int) -> None:
        row = Task.objects.get(pk=self._task(index).pk)
        if row.status != "deleted":
            waiting = self._runs(task=row.pk, status="queued")
            try:
                run = run_trigger(task=row, actor="user:test")
            except TooManyQueuedRuns:
                assert row.max_queued is not None
                assert len(waiting) >= row.max_queued
                return
            assert run.status in {"queued", "skipped"}
            assert run.status == "queued" or run.reason

    @precondition(lambda self: TaskRun.objects.unfinished().exists())
    @rule(pick=st.integers(0, 50))
    def person_cancels(self, pick: int) -> None:
        runs = list(TaskRun.objects.unfinished().order_by("id"))
        run = runs[pick % len(runs)]
        answer = run_cancel(run_id=run.pk, actor="user:test")
        is_queued = run.status == "queued"
        expected = CancelAnswer.CANCELLED if is_queued else CancelAnswer.REQUESTED
        assert answer == {run.pk: expected}

    @rule(index=st.integers(0, 1), values=limits)
    def person_changes_limits(self, index: int, values: dict[str, Any]) -> None:
        task = self._task(index)
        if self._status(task) != "deleted":
            task_update(task_id=task.pk, values=values)
            self.running, self.unfinished = self._going_on()

    @rule(index=st.integers(0, 1), period=st.sampled_from([10, 15, 60]))
    def person_changes_schedule(self, index: int, period: int) -> None:
        task = self._task(index)
        if self._status(task) == "deleted":
            return
        task_update(
            task_id=task.pk,
            values={},
            schedule=ScheduleInput.of({"interval_seconds": period}),
        )
        self._close(task, self.now)
        self._open(task, period)

    @rule(index=st.integers(0, 1))
    def person_pauses_or_resumes(self, index: int) -> None:
        task = self._task(index)
        match self._status(task):
            case "active":
                task_pause(task_id=task.pk)
                task.paused_at = self.now
            case "paused":
                task_resume(task_id=task.pk)
                task.paused_at = None
                cursor = Task.objects.get(pk=task.pk).next_fire_at
                assert cursor is None or cursor > self.now

    @precondition(lambda self: self.now > BEGIN + timedelta(seconds=400))
    @rule()
    def person_deletes(self) -> None:
        task = self.tasks[0]
        if self._status(task) != "deleted":
            self._close(task, task.paused_at or self.now)
            task_delete(task_id=task.pk, actor="user:test")
            assert self._runs(task=task.pk, status="queued") == []

    # --- what is asked --------------------------------------------------------------
    def _runs(self, **filters: Any) -> list[int]:
        found = TaskRun.objects.filter(**filters).order_by("id")
        return list(found.values_list("id", flat=True))

    def _going_on(self) -> tuple[Counter[int], Counter[int]]:
        """How many runs of each task run, and how many have neither ended nor been
        asked to end."""
        runs = TaskRun.objects.unfinished()
        going_on = runs.filter(cancel_requested_at__isnull=True)
        return (
            Counter(runs.filter(status="running").values_list("task_id", flat=True)),
            Counter(going_on.values_list("task_id", flat=True)),
        )

    def _tasks_of(self, **filters: Any) -> set[int]:
        found = TaskRun.objects.filter(**filters).order_by()
        return set(found.values_list("task_id", flat=True))

    def _current(self) -> dict[int, int]:
        """The attempt of each run that runs."""
        running = TaskRun.objects.filter(status="running")
        return dict(running.values_list("id", "attempt"))

    def _status(self, task: Defined) -> str:
        return str(Task.objects.values_list("status", flat=True).get(pk=task.pk))

    def _room(self, task_id: int) -> int:
        row = Task.objects.get(pk=task_id)
        rooms = [1000]
        if row.max_concurrency:
            counted = TaskRun.objects.unfinished().filter(task=row)
            used = counted.filter(Q(admission="admitted") | Q(status="running"))
            rooms.append(row.max_concurrency - used.count())
        if row.rate_limit_runs:
            rooms.append(row.rate_limit_runs - self._starts(row))
        if row.target and self._is_breaker_open():
            rooms.append(0)
        return max(0, min(rooms))

    def _starts(self, row: Task) -> int:
        since = self.now - timedelta(seconds=row.rate_limit_seconds)
        return RateStart.objects.filter(scope=f"task:{row.pk}", at__gt=since).count()

    def _is_breaker_open(self) -> bool:
        return Breaker.objects.filter(target=TARGET).exclude(state="closed").exists()

    # --- after every step -----------------------------------------------------------
    @invariant()
    def every_fire_has_one_row(self) -> None:
        """C1: up to the cursor no gap, no double, and no row that is no fire."""
        for task in self.tasks:
            row = Task.objects.get(pk=task.pk)
            cursor = row.next_fire_at or self.now
            expected = Counter(
                at
                for span in task.spans
                for at in span.fires(span.end or cursor - timedelta(microseconds=1))
            )
            assert self._accounted(task, list(expected)) == expected

    def _accounted(self, task: Defined, fires: list[datetime]) -> Counter[datetime]:
        rows = TaskRun.objects.filter(task=task.pk, trigger="schedule")
        found: Counter[datetime] = Counter()
        for at, status, result in rows.values_list("scheduled_for", "status", "result"):
            if status == "skipped" and result:
                first, last = map(
                    datetime.fromisoformat, (result["first"], result["last"])
                )
                inside = [fire for fire in fires if first <= fire <= last]
                assert len(inside) == result["skipped"]
                found.update(inside)
            else:
                found[at] += 1
        return found

    @invariant()
    def what_has_ended_stays_as_it_ended(self) -> None:
        """C2: a terminal state never changes, and it alone has an end."""
        fields = ("status", "completed_at", "attempt", "reason", "exit_code", "result")
        for run_id, *values in TaskRun.objects.values_list("id", *fields):
            is_terminal = values[0] in TERMINAL
            assert (values[1] is not None) == is_terminal
            if is_terminal:
                assert self.ended.setdefault(run_id, tuple(values)) == tuple(values)
        gone = set(self.ended) - set(self._runs(status__in=TERMINAL))
        assert gone == set()

    @invariant()
    def tallies_tell_of_every_end(self) -> None:
        assert told() == counted()
        assert told_by_hour() == counted_by_hour()

    @invariant()
    def attempts_are_counted_and_outcomes_single(self) -> None:
        """C4 and C5, by the events."""
        rows = TaskRun.objects.annotate(
            starts=Count("events", filter=Q(events__kind="started")),
            ends=Count("events", filter=Q(events__kind="finished")),
        ).values_list(
            "id", "status", "attempt", "version__definition", "starts", "ends"
        )
        for run_id, status, attempt, rules, starts, ends in rows:
            assert starts == attempt, f"run {run_id} has {starts} starts"
            assert starts <= rules["max_attempts"], f"run {run_id} started {starts}x"
            assert ends == (status in TERMINAL and status != "skipped"), f"run {run_id}"

    @invariant()
    def limits_hold(self) -> None:
        """C10: never above the limit; above a lowered one, never more than before."""
        running, going_on = self._going_on()
        for row in Task.objects.all():
            if row.overlap == "allow":
                continue
            most = row.max_concurrency or 1
            assert running[row.pk] <= max(most, self.running[row.pk])
            if row.overlap in {"skip", "replace"}:
                assert going_on[row.pk] <= max(most, self.unfinished[row.pk])
        self.running, self.unfinished = running, going_on

    @invariant()
    def only_limits_hold_runs_back(self) -> None:
        by_task: dict[int, Counter[str]] = defaultdict(Counter)
        queued = TaskRun.objects.filter(status="queued", due_at__lte=self.now)
        for task_id, admission in queued.values_list("task_id", "admission"):
            by_task[task_id][admission] += 1
        for row in Task.objects.filter(pk__in=by_task):
            is_shut = bool(row.target) and self._is_breaker_open()
            is_limited = bool(row.max_concurrency or row.rate_limit_runs or is_shut)
            counts = by_task[row.pk]
            note(f"{row}: {dict(counts)}")
            if is_limited:
                assert not counts["free"], f"a limit of {row} does not count a run"

    @invariant()
    def an_end_makes_its_child_once(self) -> None:
        for task in self.tasks:
            if task.child:
                ended = self._runs(task=task.pk, status__in=TERMINAL)
                children = TaskRun.objects.filter(task=task.child)
                roots = children.order_by("root_id").values_list("root_id", flat=True)
                assert list(roots) == ended


@pytest.mark.django_db
@pytest.mark.timeout(7200)
def test_every_history_keeps_the_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: Dialect = (
        FrozenSQLite() if connection.vendor == "sqlite" else FrozenPostgreSQL()
    )
    monkeypatch.setitem(_DIALECTS, connection.vendor, frozen)
    monkeypatch.setattr(django_settings, "BREAKER_FAILURES", 2)
    profile = PROFILES[os.environ.get("GNOMON_HYPOTHESIS", "")]
    run_state_machine_as_test(Histories, settings=profile)


@pytest.mark.django_db
def test_a_planner_that_comes_late_leaves_the_cursor_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between its look at the cursor and its move, somebody else has moved it."""
    task = backdate(make_task(interval_seconds=60), 61)
    later = ledger.database_now() + timedelta(days=1)

    def create_late(runs: Sequence[NewRun], *rest: Any) -> list[int]:
        Task.objects.filter(pk=task.pk).update(next_fire_at=later)
        return ledger.create(runs, *rest)

    monkeypatch.setattr("tasks_app.ledger.planning.create", create_late)
    ledger.plan()
    task.refresh_from_db()
    assert task.next_fire_at == later


@pytest.mark.django_db
def test_a_new_limit_counts_the_runs_that_began_without_it() -> None:
    task = make_task()
    for _ in range(2):
        make_run(task)
    assert len(ask(10)) == 2
    task_update(task_id=task.pk, values={"overlap": "queue", "max_concurrency": 2})
    make_run(task)
    assert ask(10) == []


@pytest.mark.django_db
def test_of_fires_that_come_due_together_the_newest_replaces_the_others() -> None:
    task = make_task(interval_seconds=10, overlap="replace", max_concurrency=1)
    first = make_run(task)
    backdate(task, 41)
    ledger.plan()
    fires = task.runs.filter(trigger="schedule").order_by("scheduled_for")
    statuses = [run.status for run in fires]
    assert len(statuses) >= 4
    assert statuses == ["skipped"] * (len(statuses) - 1) + ["queued"]
    first.refresh_from_db()
    newest = task.runs.get(status="queued")
    assert (first.status, first.reason) == ("cancelled", f"replaced by run {newest.pk}")


@pytest.mark.usefixtures("committed")
def test_of_triggers_at_the_same_time_no_more_are_let_in_than_may_run() -> None:
    for _ in range(5):
        task = make_task(overlap="queue", max_concurrency=1)
        together = Barrier(8)

        def trigger(task: Task = task, together: Barrier = together) -> None:
            together.wait()
            try:
                make_run(task)
            finally:
                connection.close()

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(trigger) for _ in range(8)]:
                done.result()
        assert task.runs.filter(admission="admitted").count() == 1


@pytest.mark.usefixtures("committed")
def test_no_bell_rings_before_the_run_is_there_to_be_claimed(
    rung: list[Doorbell],
) -> None:
    with transaction.atomic():
        make_run()
        assert rung == []
    assert rung == [Doorbell("default", "")]
