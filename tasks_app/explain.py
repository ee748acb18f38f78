"""Why a run has not started, or why a fire did not run.

Nothing is decided here: each answer is asked of the function or the condition that
the dispatcher itself goes by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.conf import settings

from tasks_app import ledger
from tasks_app.choices import Admission, BreakerState, RunStatus, TaskStatus, Trigger
from tasks_app.errors import HistoryAway
from tasks_app.formats import duration
from tasks_app.ledger.admission import queue_limits
from tasks_app.ledger.eligibility import (
    MAX_AHEAD,
    ahead_in_lane,
    ahead_in_task,
    standing,
)
from tasks_app.ledger.planning import Calendars, blackout_reason
from tasks_app.ledger.unplaced import no_worker
from tasks_app.models import (
    Breaker,
    HistoryStart,
    RateStart,
    Task,
    TaskRun,
    TaskVersion,
)
from tasks_app.rules.blackout import blackout_at
from tasks_app.rules.cron import TICK
from tasks_app.rules.placement import WorkerView, can_take
from tasks_app.rules.rates import next_room_at
from tasks_app.rules.run_ids import first_id
from tasks_app.rules.schedules import newest_fires, next_fire
from tasks_app.run_history import archived, archived_end, is_archived

NOBODY = 0
"""Stands for a worker that no run wishes for."""
LOOK_BACK = timedelta(days=366)
WORKERS_SHOWN = 100
TURN = frozenset({"slots", "position"})
"""Checks that say whose turn it is, not whether the run may start."""


@dataclass(frozen=True, slots=True)
class Check:
    """One predicate: its stable name, whether it holds, a sentence, live numbers."""

    name: str
    passed: bool
    detail: str
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker, how many more runs it may hold, and why it does not take this one; no
    refusal: it does, when it is the run's turn."""

    name: str
    free_slots: int
    refusal: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The checks in the order in which they decide; `summary` is the first that fails.

    `run_ids`: the runs of a fire that was asked about.
    """

    summary: str
    checks: list[Check]
    workers: list[Candidate] = field(default_factory=list)
    run_ids: list[int] = field(default_factory=list)

    @property
    def may_start(self) -> bool:
        """Whether a claim would take the run, were there only enough slots."""
        return all(check.passed for check in self.checks if check.name not in TURN)


# --- A run --------------------------------------------------------------------------
def explain_run(run: TaskRun) -> Explanation:
    """Why a run has not started; for one that has, where it is, or how it ended."""
    if not is_archived(run):
        run = TaskRun.objects.select_related("task", "worker").get(pk=run.pk)
    if run.status == RunStatus.QUEUED:
        return _queued(run)
    check = _running(run) if run.status == RunStatus.RUNNING else _ended(run)
    return Explanation(check.detail, [check])


def _queued(run: TaskRun) -> Explanation:
    now = ledger.database_now()
    fleet = ledger.workers()
    met = standing(run.pk, [NOBODY, *(worker.id for worker in fleet)])
    if not met or not met[NOBODY]["queued"]:  # it was just taken
        return explain_run(run)
    workers = [(worker, can_take(worker, run.queue, run.lane)) for worker in fleet]
    able = [worker for worker, refusal in workers if not refusal]
    asked = [worker for worker in able if met[worker.id]["wish"]]
    checks = [
        _attempt(run),
        _due(run, now, passed=met[NOBODY]["due"]),
        _start_deadline(run, now, passed=met[NOBODY]["start_deadline"]),
        *_admission(run, now, passed=met[NOBODY]["admitted"]),
        _queue_limit(run),
        Check("workers", bool(able), _workers_detail(run, workers, able)),
        _wish(run, fleet, now, passed=bool(asked) or not able),
        *_turn(run, asked),
    ]
    failing = [check for check in checks if not check.passed]
    summary = failing[0].detail if failing else _next_claim(asked)
    return Explanation(summary, checks, _candidates(workers, asked))


def _attempt(run: TaskRun) -> Check:
    detail = "it is queued"
    numbers = {"attempt": run.attempt}
    if run.attempt:
        why = run.error.strip().splitlines()[-1:] or [run.reason]
        detail = f"attempt {run.attempt} ended, and another follows: {why[0]}"
    return Check("queued", passed=True, detail=detail, numbers=numbers)


def _due(run: TaskRun, now: datetime, *, passed: bool) -> Check:
    seconds = (run.due_at - now).total_seconds()
    if passed:
        detail = f"it has been due for {duration(now - run.due_at)}"
    else:
        what = f"attempt {run.attempt + 1}" if run.attempt else "it"
        why = f" ({run.trigger_reason})" if _is_postponed(run) else ""
        detail = f"{what} is due in {duration(run.due_at - now)}{why}"
    numbers = {"due_at": run.due_at, "seconds": round(seconds, 1)}
    return Check("due", passed, detail, numbers)


def _is_postponed(run: TaskRun) -> bool:
    return run.trigger_reason.startswith("postponed: ")


def _start_deadline(run: TaskRun, now: datetime, *, passed: bool) -> Check:
    deadline = run.start_deadline_at
    if deadline is None:
        return Check("start_deadline", passed, "it may start however late")
    detail = f"it must start within {duration(deadline - now)}"
    if not passed:
        detail = f"its start deadline passed {duration(now - deadline)} ago: it expires"
    numbers = {"start_deadline_at": deadline}
    return Check("start_deadline", passed, detail, numbers)


def _admission(run: TaskRun, now: datetime, *, passed: bool) -> Iterator[Check]:
    """Whether its task's limits let it go on, and if not, each of them."""
    if passed:
        detail = "no limit of its task holds it back"
        if run.admission == Admission.ADMITTED:
            detail = "its task's limits count it in already"
        yield Check("admitted", passed, detail)
        return
    limits = ledger.limits(run.task_id)
    full = [limit for limit in limits if not limit.room]
    ahead = ahead_in_task(run.pk, run.task_id)
    detail = "there is room: it is admitted within a second of being due"
    if ahead and not full:
        detail = f"{_counted(ahead)} of its task are admitted first"
    if full:
        detail = _limit_check(run, full[0], now).detail
    numbers = {"ahead": ahead, "is_more": ahead > MAX_AHEAD}
    yield Check("admitted", passed, detail, numbers)
    for limit in limits:
        yield _limit_check(run, limit, now)


def _limit_check(run: TaskRun, limit: ledger.Limit, now: datetime) -> Check:
    numbers: dict[str, Any] = {"used": limit.used, "allowed": limit.allowed}
    if limit.name == "circuit_breaker":
        return _breaker(run, now)
    detail = f"{limit.used} of the {limit.allowed} runs of the task run or are about to"
    if limit.scope:
        of = "project" if limit.scope.startswith("project:") else "task"
        detail = (
            f"{limit.used} of the {limit.allowed} starts of the {of} within"
            f" {limit.seconds} s are used"
        )
        starts = RateStart.objects.filter(scope=limit.scope).order_by("-at")
        recent = list(starts.values_list("at", flat=True)[: limit.allowed])
        at = next_room_at(recent, limit.allowed, limit.seconds, now)
        numbers |= {"seconds": limit.seconds, "next_room_at": at}
        if at:
            detail += f", the next is free in {duration(at - now)}"
    return Check(limit.name, bool(limit.room), detail, numbers)


def _breaker(run: TaskRun, now: datetime) -> Check:
    breaker = Breaker.objects.filter(target=run.task.target).first()
    if breaker is None or breaker.state == BreakerState.CLOSED:  # it has just closed
        return Check("circuit_breaker", passed=True, detail="its breaker is closed")
    numbers: dict[str, Any] = {
        "target": breaker.target,
        "state": breaker.state,
        "failures": breaker.failures,
        "opened_at": breaker.opened_at,
        "probe_run_id": breaker.probe_run_id,
    }
    told = f"{breaker.target} failed {breaker.failures} times in a row"
    if breaker.probe_run_id:
        told += f": run {breaker.probe_run_id} probes it, and the others wait"
    elif breaker.opened_at:
        at = breaker.opened_at + timedelta(seconds=settings.BREAKER_SECONDS)
        numbers["next_probe_at"] = at
        when = f"in {duration(at - now)}" if at > now else "within a second"
        told += f": its circuit breaker is open, and the next probe goes out {when}"
    return Check("circuit_breaker", passed=False, detail=told, numbers=numbers)


def _queue_limit(run: TaskRun) -> Check:
    for limit in queue_limits([run.queue]):
        detail = f"{limit.used} of the {limit.allowed} runs of queue {run.queue} run"
        numbers = {"used": limit.used, "allowed": limit.allowed}
        return Check("queue_limit", bool(limit.room), detail, numbers)
    return Check("queue_limit", passed=True, detail=f"queue {run.queue} has no limit")


def _workers_detail(
    run: TaskRun, workers: Sequence[tuple[WorkerView, str]], able: Sequence[WorkerView]
) -> str:
    if able:
        return f"{len(able)} of {len(workers)} workers can take it"
    return no_worker(run.queue, run.lane, dict(workers))


def _wish(
    run: TaskRun, fleet: Sequence[WorkerView], now: datetime, *, passed: bool
) -> Check:
    wanted = [worker for worker in fleet if worker.id == run.wanted_worker_id]
    if not wanted or run.wanted_until is None:
        return Check("wish", passed, "any of them may have it")
    left = run.wanted_until - now
    detail = f"it was for {wanted[0].name} first; now any of them may have it"
    if left > timedelta(0):
        detail = f"it waits {duration(left)} more for {wanted[0].name}, then for any"
    numbers = {"worker": wanted[0].name, "wanted_until": run.wanted_until}
    return Check("wish", passed, detail, numbers)


def _turn(run: TaskRun, asked: Sequence[WorkerView]) -> Iterator[Check]:
    """Slots, and what is ahead of it."""
    free = sum(worker.free_slots for worker in asked)
    slots = sum(worker.max_tasks for worker in asked)
    detail = f"{free} of the {slots} slots of these workers are free"
    numbers: dict[str, Any] = {"free": free, "slots": slots}
    yield Check("slots", free > 0 or not asked, detail, numbers)
    ahead = ahead_in_lane(run.pk, run.queue, run.lane)
    where = f"queue {run.queue}" + (f" for {run.lane}" if run.lane else "")
    detail = f"{_counted(ahead)} of {where} are ahead of it"
    numbers = {"ahead": ahead, "is_more": ahead > MAX_AHEAD, "priority": run.priority}
    yield Check("position", ahead < free or not free, detail, numbers)


def _counted(ahead: int) -> str:
    return f"{MAX_AHEAD}+ runs" if ahead > MAX_AHEAD else f"{ahead} runs"


def _next_claim(asked: Sequence[WorkerView]) -> str:
    names = ", ".join(worker.name for worker in asked[:3])
    within = f"within {settings.POLL_SECONDS:g} s"
    return f"nothing holds it back: it starts {within} on {names}"


def _candidates(
    workers: Sequence[tuple[WorkerView, str]], asked: Sequence[WorkerView]
) -> list[Candidate]:
    """The online workers, those that take it first; an offline one if none is."""
    shown = [(worker, refusal) for worker, refusal in workers if worker.is_online]
    found = [
        Candidate(
            worker.name,
            worker.free_slots,
            refusal or ("" if worker in asked else "the run waits for another worker"),
        )
        for worker, refusal in shown or workers
    ]
    found.sort(key=lambda each: (bool(each.refusal), each.name))
    return found[:WORKERS_SHOWN]


def _running(run: TaskRun) -> Check:
    now = ledger.database_now()
    name = run.worker.name if run.worker else f"worker {run.worker_id}"
    since = duration(now - run.started_at) if run.started_at else ""
    detail = f"it has been running on {name} for {since}, attempt {run.attempt}"
    if run.cancel_requested_at:
        detail += "; its cancel was asked for"
    numbers = {
        "worker": name,
        "attempt": run.attempt,
        "started_at": run.started_at,
        "lease_expires_at": run.lease_expires_at,
    }
    return Check("running", passed=True, detail=detail, numbers=numbers)


def _ended(run: TaskRun) -> Check:
    numbers: dict[str, Any] = {
        "status": run.status,
        "attempt": run.attempt,
        "completed_at": run.completed_at,
    }
    passed = run.started_at is not None
    if run.status == RunStatus.SKIPPED:
        numbers["policy"] = skipped_by(run)
        detail = f"it was skipped: {run.reason}"
    else:
        label = RunStatus(run.status).label.lower()
        told = run.error.strip().splitlines()[-1:] or [run.reason]
        detail = f"it ended: {label}" + (f" ({told[0]})" if told[0] else "")
        detail += "" if passed else "; it had not started"
    return Check("ended", passed, detail, numbers)


_SKIPPED_BY = {
    "overlap: ": "overlap",
    "broadcast: ": "placement",
    "blackout ": "blackout",
    "missed": "misfire",
}


def skipped_by(run: TaskRun) -> str:
    """The policy that skipped a run: overlap, max_queued, placement, blackout, misfire,
    or trigger_rule."""
    if run.reason.endswith("(max_queued)"):
        return "max_queued"
    for begin, policy in _SKIPPED_BY.items():
        if run.reason.startswith(begin):
            return policy
    return "trigger_rule" if run.trigger == Trigger.DEPENDENCY else "misfire"


# --- A fire -------------------------------------------------------------------------
_HISTORY_AWAY = Check(
    "history",
    passed=False,
    detail="its run may be archived, and the history database does not answer",
)


def explain_fire(task: Task, at: datetime) -> Explanation:
    """Whether a task fired at a time, and what became of it."""
    now = ledger.database_now()
    away: list[Check] = []
    try:
        runs = _runs_of_fire(task, at)
    except HistoryAway:
        runs, away = [], [_HISTORY_AWAY]
    checks = [
        *_nominal(task, at),
        _history(task, at),
        _status(task, at),
        _blackout(task, at),
        *away,
        _planned(task, at, runs, now),
    ]
    failing = [check for check in checks if not check.passed]
    summary = failing[0].detail if failing else checks[-1].detail
    if runs:
        told = explain_run(runs[0])
        summary = f"it has run {runs[0].pk}: {told.summary}"
        checks += told.checks
    return Explanation(summary, checks, run_ids=[run.pk for run in runs])


def _runs_of_fire(task: Task, at: datetime) -> list[TaskRun]:
    """Its run, or those of a broadcast, or the summary that counts it in.

    Raises:
        HistoryAway: its run may be in the history, which does not answer.
    """
    planned = task.runs.filter(trigger=Trigger.SCHEDULE)
    fire = planned.filter(scheduled_for=at).order_by("shard_index")
    found = list(fire)
    if not found and first_id(at.astimezone(UTC).date()) < archived_end():
        found = archived(fire)  # no run is older than its fire
    if found:
        return found
    # A summary bears the time of its newest fire, and none that it counts has a row.
    # So it is the next row after this time, or no row is: one look at the index of
    # fires, however many have been skipped since.
    summary = planned.filter(scheduled_for__gt=at).order_by("scheduled_for").first()
    if summary is None or summary.status != RunStatus.SKIPPED:
        return []
    first = (summary.result or {}).get("first")
    return [summary] if first and datetime.fromisoformat(first) <= at else []


def _nominal(task: Task, at: datetime) -> Iterator[Check]:
    """Whether the schedule names this time, and which times it names around it."""
    rule = task.schedule_rule()
    if rule is None:
        yield Check("schedule", passed=False, detail="the task has no schedule")
        return
    before = newest_fires(rule, at - LOOK_BACK, at - TICK, 1)
    after = next_fire(rule, at)
    numbers = {"before": before[0] if before else None, "after": after}
    if next_fire(rule, at - TICK) == at:
        yield Check(
            "schedule", passed=True, detail="the schedule fires then", numbers=numbers
        )
        return
    told = [f"the last before is {_text(fire)}" for fire in before]
    told += [f"the next after is {_text(after)}"] if after else []
    detail = "; ".join(["the schedule does not fire then", *told])
    yield Check("schedule", passed=False, detail=detail, numbers=numbers)


def _history(task: Task, at: datetime) -> Check:
    """Whether the task had this schedule at the time."""
    numbers: dict[str, Any] = {"created_at": task.created_at}
    if at < task.created_at:
        detail = f"the task did not exist: it was made {_text(task.created_at)}"
        return Check("definition", passed=False, detail=detail, numbers=numbers)
    now = TaskVersion.objects.filter(task=task).order_by("-number").first()
    then = (
        TaskVersion.objects.filter(task=task, created_at__lte=at)
        .order_by("-number")
        .first()
    )
    if now and then and _schedule_of(now) != _schedule_of(then):
        detail = f"the schedule was another then, that of version {then.number}"
        return Check(
            "definition",
            passed=False,
            detail=detail,
            numbers={**numbers, "version": then.number},
        )
    return Check(
        "definition",
        passed=True,
        detail="the task had this schedule then",
        numbers=numbers,
    )


def _schedule_of(version: TaskVersion) -> tuple[Any, Any]:
    return version.definition.get("schedule"), version.definition.get("timezone")


def _status(task: Task, at: datetime) -> Check:
    """Whether it is paused at this fire. What has a run was not."""
    passed = task.status == TaskStatus.ACTIVE or _is_past_cursor(task, at)
    if passed:
        return Check("active", passed, "the task was not paused then")
    why = f": {task.status_reason}" if task.status_reason else ""
    detail = (
        f"the task is {task.status}{why}; what becomes of the fire is decided when it"
        " is resumed"
    )
    return Check("active", passed, detail, {"status": task.status})


def _is_past_cursor(task: Task, at: datetime) -> bool:
    """Whether the planner has accounted for this time."""
    return task.next_fire_at is not None and at < task.next_fire_at


def _blackout(task: Task, at: datetime) -> Check:
    found = blackout_at(Calendars().of(task), at)
    if found is None:
        return Check("blackout", passed=True, detail="it lies in no blackout")
    numbers = {"calendar": found.calendar, "until": found.until, "does": found.action}
    done = "postponed" if found.action == "postpone" else "skipped"
    detail = f"it lies in a {blackout_reason(found)}, and is {done}"
    return Check("blackout", found.action == "postpone", detail, numbers)


def _planned(task: Task, at: datetime, runs: Sequence[TaskRun], now: datetime) -> Check:
    numbers: dict[str, Any] = {"next_fire_at": task.next_fire_at}
    if runs:
        return Check(
            "planned", passed=True, detail="it is accounted for", numbers=numbers
        )
    if at > now:
        detail = f"it lies {duration(at - now)} ahead"
    elif start := _removed_before(task, at):
        detail = f"its run was removed: runs are kept from {start} on"
        numbers["kept_from"] = start
    elif _is_past_cursor(task, at) or task.next_fire_at is None:
        detail = "the planner has passed it, and it has no run"
    else:
        late = duration(now - at)
        detail = (
            f"beat has not planned it, though it has been due for {late}: is one up?"
        )
    return Check("planned", passed=False, detail=detail, numbers=numbers)


def _removed_before(task: Task, at: datetime) -> date | None:
    """The day from which on the task's runs are kept, if retention has come past."""
    start = HistoryStart.objects.filter(task=task).first()
    return start.day if start and at.astimezone(UTC).date() < start.day else None


def _text(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
