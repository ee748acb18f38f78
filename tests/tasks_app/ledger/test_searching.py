"""Searching runs: every page together is what a plain look at all of them finds."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tasks_app.ledger import searching
from tasks_app.ledger.searching import (
    MAX_ID,
    RecentRun,
    RunSearch,
    newest_of,
    recent_runs,
    search_down,
    search_up,
)
from tasks_app.models import TaskRun, TaskVersion
from tasks_app.rules.run_ids import first_id
from tests.factories import make_task, make_worker

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LIMIT = 7
STATUSES = ["succeeded"] * 8 + ["failed", "lost", "skipped", "queued", "running"]
TRIGGERS = ["schedule"] * 8 + ["api", "rerun", "dependency"]


@pytest.fixture(autouse=True)
def little_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that pages end for it, in each of the walks."""
    monkeypatch.setattr(searching, "LOOK_AT", 20)
    monkeypatch.setattr(searching, "LOOK_UP", 12)
    monkeypatch.setattr(searching, "FEW_WALKS", 2)


@pytest.fixture
def runs() -> list[TaskRun]:
    """300 runs of forty days, some numbered as before numbers carried days."""
    draw = random.Random(7)
    versions = [TaskVersion.objects.get(task=make_task()) for _ in range(5)]
    workers = [make_worker().pk for _ in range(3)]
    made: list[TaskRun] = []
    for number in range(1, 301):
        at = NOW - timedelta(days=40) + timedelta(days=number * 40 / 301)
        version = draw.choice(versions)
        run = _run(number, at, version, draw)
        run.worker_id = draw.choice(workers) if run.started_at else None
        if run.trigger == "dependency" and made:
            root = made[-1].root_id or made[-1].pk
            run.root_id = root
            run.pk = root // 10**10 * 10**10 + number
        made.append(run)
    return TaskRun.objects.bulk_create(made)


def _run(
    number: int, at: datetime, version: TaskVersion, draw: random.Random
) -> TaskRun:
    status = draw.choice(STATUSES)
    has_started = status not in ("queued", "skipped")
    is_over = status not in ("queued", "running")
    return TaskRun(
        id=number if number <= 60 else first_id(at.date()) + number,
        task_id=version.task_id,
        version=version,
        trigger=draw.choice(TRIGGERS),
        scheduled_for=at,
        status=status,
        queue=draw.choice(["default", "default", "slow"]),
        attempt=int(has_started),
        created_at=at,
        due_at=at,
        started_at=at + timedelta(seconds=draw.random()) if has_started else None,
        completed_at=at + timedelta(minutes=3) if is_over else None,
        lease_expires_at=at + timedelta(days=1) if status == "running" else None,
    )


def matches(run: TaskRun, search: RunSearch) -> bool:
    """The search, read off plainly."""
    listed = {
        "task_id": search.task_ids,
        "status": search.statuses,
        "trigger": search.triggers,
        "worker_id": search.worker_ids,
        "queue": search.queues,
    }
    times: list[tuple[datetime | None, datetime | None, datetime | None]] = [
        (run.started_at, search.started_after, search.started_before),
        (run.completed_at, search.ended_after, search.ended_before),
        (run.scheduled_for, search.scheduled_after, None),
    ]
    return (
        all(v is None or getattr(run, name) in v for name, v in listed.items())
        and search.root_id in (None, run.root_id, run.pk)
        and all(_within(*each) for each in times)
    )


def _within(
    at: datetime | None, after: datetime | None, before: datetime | None
) -> bool:
    if after is None and before is None:
        return True
    return at is not None and (after or at) <= at and (not before or at < before)


Make = Callable[[list[TaskRun]], RunSearch]
DAY = timedelta(days=1)
SEARCHES: dict[str, Make] = {
    "everything": lambda _: RunSearch(),
    "a task": lambda runs: RunSearch(task_ids=(runs[0].task_id,)),
    "tasks": lambda runs: RunSearch(task_ids=tuple({run.task_id for run in runs[:4]})),
    "no task": lambda _: RunSearch(task_ids=()),
    "a status": lambda _: RunSearch(statuses=("lost",)),
    "statuses": lambda _: RunSearch(statuses=("lost", "failed", "queued")),
    "the unfinished": lambda _: RunSearch(statuses=("queued", "running")),
    "what succeeded": lambda _: RunSearch(statuses=("succeeded",)),
    "a trigger": lambda _: RunSearch(triggers=("rerun",)),
    "a worker": lambda runs: RunSearch(worker_ids=(worker_of(runs),)),
    "a queue": lambda _: RunSearch(queues=("slow",)),
    "an unknown queue": lambda _: RunSearch(queues=("unknown",)),
    "a workflow": lambda runs: RunSearch(root_id=root_of(runs)),
    "what failed in a workflow": lambda runs: RunSearch(
        root_id=root_of(runs), statuses=("failed",)
    ),
    "a task's failures": lambda runs: RunSearch(
        task_ids=(runs[0].task_id,), statuses=("failed", "lost")
    ),
    "failures of many tasks": lambda runs: RunSearch(
        task_ids=tuple({run.task_id for run in runs}), statuses=("failed", "lost")
    ),
    "a task's successes on a queue": lambda runs: RunSearch(
        task_ids=(runs[0].task_id,), statuses=("succeeded",), queues=("slow",)
    ),
    "successes on a queue": lambda _: RunSearch(
        statuses=("succeeded",), queues=("slow",)
    ),
    "waiting on a queue": lambda _: RunSearch(statuses=("queued",), queues=("slow",)),
    "started since": lambda _: RunSearch(started_after=NOW - 5 * DAY),
    "started before": lambda _: RunSearch(started_before=NOW - 5 * DAY),
    "failed in a window": lambda _: RunSearch(
        statuses=("failed",), started_after=NOW - 9 * DAY, started_before=NOW - 4 * DAY
    ),
    "ended in an hour": lambda runs: RunSearch(
        ended_after=runs[200].completed_at or NOW,
        ended_before=(runs[200].completed_at or NOW) + DAY / 24,
    ),
    "of old": lambda _: RunSearch(started_before=NOW - 36 * DAY),
    "scheduled since": lambda _: RunSearch(scheduled_after=NOW - 3 * DAY),
    "in a far future": lambda _: RunSearch(started_after=NOW + 36500 * DAY),
    "in a far past": lambda _: RunSearch(started_before=NOW - 36500 * DAY),
}


def root_of(runs: list[TaskRun]) -> int:
    return next(run.root_id for run in runs if run.root_id)


def worker_of(runs: list[TaskRun]) -> int:
    return next(run.worker_id for run in runs if run.worker_id)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_pages_are_all_that_matches_newest_first(
    name: str, runs: list[TaskRun]
) -> None:
    search = SEARCHES[name](runs)
    expected = sorted((run.pk for run in runs if matches(run, search)), reverse=True)
    assert followed(search, "down") == expected
    assert followed(search, "up") == expected[::-1]


def followed(search: RunSearch, way: str) -> list[int]:
    """The runs of all pages."""
    found: list[int] = []
    at = MAX_ID if way == "down" else -1
    for _ in range(200):
        page = (
            search_down(search, before=at, limit=LIMIT)
            if way == "down"
            else search_up(search, after=at, limit=LIMIT)
        )
        found += page.run_ids
        if len(page.run_ids) == LIMIT:
            at = page.run_ids[-1]
        elif page.edge is not None:
            at = page.edge
        else:
            return found
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_search_that_finds_nothing_stops_after_so_many_runs(
    way: str, runs: list[TaskRun]
) -> None:
    search = RunSearch(queues=("unknown",))
    ids = sorted((run.pk for run in runs), reverse=way == "down")
    found = (
        search_down(search, before=MAX_ID, limit=LIMIT)
        if way == "down"
        else search_up(search, after=-1, limit=LIMIT)
    )
    assert found.run_ids == []
    assert found.edge == ids[19]


def test_each_task_has_its_newest_runs(runs: list[TaskRun]) -> None:
    by_task: dict[int, list[int]] = {}
    for run in sorted(runs, key=lambda run: run.pk, reverse=True):
        by_task.setdefault(run.task_id, []).append(run.pk)
    unknown: dict[int, list[int]] = {10**6: []}
    found = newest_of([*by_task, 10**6], 3)
    assert found == {task: ids[:3] for task, ids in by_task.items()} | unknown


def test_recent_runs_are_as_stored_and_the_newest_is_last(runs: list[TaskRun]) -> None:
    by_task: dict[int, list[RecentRun]] = {}
    for run in TaskRun.objects.order_by("pk"):
        times = (run.created_at, run.started_at, run.completed_at)
        shown = RecentRun(run.pk, run.status, *times)
        by_task.setdefault(run.task_id, []).append(shown)
    found = recent_runs([*by_task, 10**6], 3)
    assert found == {task: all_[-3:] for task, all_ in by_task.items()} | {10**6: []}
    assert any(run.completed_at for of_task in found.values() for run in of_task)
