"""Blackouts, jitter and pauses: what becomes of a fire that is due."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from tasks_app import ledger
from tasks_app.ledger.dialects import _DIALECTS, PostgreSQL, fetch
from tasks_app.models import Calendar, Project, RunEvent, Task, TaskRun, TaskVersion
from tasks_app.rules.jitter import jitter
from tasks_app.services.runs import run_trigger
from tests.factories import ask, backdate, make_task

pytestmark = pytest.mark.django_db

MOST_STATEMENTS = 2 if connection.vendor == "postgresql" else 5
"""Lock and read; runs, events, and cursors. Tallies of skipped ones. Of a transaction's
begin and end Django does not tell."""


def window(begin: datetime, seconds: float) -> dict[str, str]:
    span = (begin, begin + timedelta(seconds=seconds))
    first, last = (at.isoformat(timespec="seconds") for at in span)
    return {"from": first, "until": last}


def blackout(seconds: float = 3600, *, ago: float = 3600, **values: Any) -> Calendar:
    """A calendar with a window that began `ago` seconds ago and goes on for `seconds`
    more."""
    begin = ledger.database_now().replace(microsecond=0) - timedelta(seconds=ago)
    return Calendar.objects.create(
        **{"name": "nightly", "windows": [window(begin, ago + seconds)], **values}
    )


def fired(**values: Any) -> TaskRun:
    """The run of a task that has just fired."""
    task = backdate(make_task(**{"interval_seconds": 3600, **values}), 3601)
    ledger.plan()
    return TaskRun.objects.get(task=task)


def test_a_fire_in_a_blackout_is_skipped_and_says_until_when() -> None:
    run = fired(calendars=[blackout()])
    assert run.status == "skipped"
    assert run.reason.startswith("blackout nightly until 20")
    assert run.reason.endswith("Z")


def test_a_fire_in_a_blackout_is_postponed_to_its_end() -> None:
    calendar = blackout(action="postpone")
    run = fired(calendars=[calendar])
    assert run.status == "queued"
    assert run.due_at == datetime.fromisoformat(calendar.windows[0]["until"])
    assert run.trigger_reason.startswith("postponed: blackout nightly until 20")
    assert run.reason == ""
    event = RunEvent.objects.get(run=run)
    assert event.detail == {"reason": run.trigger_reason}
    assert ask() == []


def test_a_blackout_that_is_over_postpones_no_further() -> None:
    calendar = blackout(-1, ago=3600, action="postpone")
    task = make_task(interval_seconds=3600, calendars=[calendar])
    backdate(task, 3605)
    ledger.plan()
    run = TaskRun.objects.get(task=task)
    assert run.due_at == run.created_at
    assert run.trigger_reason.startswith("postponed: blackout nightly")


def test_a_fire_outside_of_the_windows_runs() -> None:
    assert fired(calendars=[blackout(-7200, ago=10_000)]).status == "queued"


def test_a_projects_blackout_is_that_of_its_tasks() -> None:
    project = Project.objects.create(name="quiet")
    project.calendars.add(blackout())
    assert fired(project=project).status == "skipped"
    assert fired().status == "queued"


def test_a_start_deadline_counts_from_the_end_of_the_blackout() -> None:
    run = fired(calendars=[blackout(action="postpone")], start_deadline_seconds=60)
    assert run.start_deadline_at
    patience = (run.start_deadline_at - run.due_at).total_seconds()
    assert patience == pytest.approx(60, abs=5)
    ledger.expire()
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_person_may_run_a_task_in_its_blackout() -> None:
    task = make_task(calendars=[blackout()])
    assert run_trigger(task=task, actor="user:test").status == "queued"


def test_jitter_delays_each_fire_by_its_own_draw() -> None:
    run = fired(jitter_seconds=86_400)
    delay = jitter(run.task_id, run.scheduled_for, 86_400)
    # One draw in some ten thousand is over before the run is there.
    assert run.due_at == max(run.scheduled_for + delay, run.created_at)
    other = fired(jitter_seconds=86_400)
    assert other.due_at != run.due_at


def test_jitter_comes_after_the_end_of_a_blackout() -> None:
    calendar = blackout(action="postpone")
    run = fired(calendars=[calendar], jitter_seconds=600)
    end = datetime.fromisoformat(calendar.windows[0]["until"])
    delay = jitter(run.task_id, run.scheduled_for, 600)
    assert run.due_at == end + delay


def test_a_calendar_that_nobody_can_read_stops_nobody() -> None:
    calendar = Calendar.objects.create(name="broken", windows=[{"cron": "nonsense"}])
    task = backdate(make_task(interval_seconds=3600, calendars=[calendar]), 3601)
    other = backdate(make_task(interval_seconds=3600), 3601)
    with capture_logs() as logs:
        ledger.plan()
    assert TaskRun.objects.filter(task__in=[task, other], status="queued").count() == 2
    assert [(log["event"], log["calendar"]) for log in logs] == [
        ("calendar.unreadable", "broken")
    ]


def test_missed_fires_that_would_run_are_held_against_the_blackout() -> None:
    task = make_task(
        interval_seconds=3600, misfire="all", calendars=[blackout(ago=5000)]
    )
    backdate(task, 4.5 * 3600)
    ledger.plan()
    runs = TaskRun.objects.filter(task=task).order_by("scheduled_for")
    assert [run.status for run in runs] == ["queued"] * 3 + ["skipped"]


def test_planning_costs_the_same_for_any_number_of_tasks_with_calendars() -> None:
    calendars = [blackout(), blackout(name="other")]

    def queries(tasks: int) -> int:
        for _ in range(tasks):
            backdate(make_task(interval_seconds=3600, calendars=calendars), 3601)
        with CaptureQueriesContext(
            connection,
        ) as captured:
            ledger.plan()
        return len(captured)

    assert queries(1) == queries(8)
    assert Task.objects.count() == 9
    assert TaskRun.objects.filter(status="skipped").count() == 9


def test_planning_costs_the_same_for_any_number_of_tasks() -> None:
    def statements(tasks: int) -> int:
        for _ in range(tasks):
            backdate(make_task(cron="* * * * *"), 61)
        with CaptureQueriesContext(connection) as captured:
            assert ledger.plan().tasks == tasks
        return len(captured)

    assert statements(1) == statements(8) <= MOST_STATEMENTS


def test_where_nothing_is_due_planning_asks_once() -> None:
    make_task(interval_seconds=3600)
    with CaptureQueriesContext(connection) as captured:
        assert ledger.plan().tasks == 0
    assert len(captured) == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL")
@pytest.mark.usefixtures("committed")
def test_a_task_that_changes_as_it_is_locked_is_left_to_the_next_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the planner has read of it would be half old, half new."""
    task = backdate(make_task(interval_seconds=3600), 3601)

    def plan() -> ledger.Planned:
        with closing(connection):
            return ledger.plan()

    class Waiting(PostgreSQL):
        """The planner looks at the clock when it may, after its statement has begun."""

        now = "(SELECT clock_timestamp() FROM (SELECT pg_advisory_lock_shared(1)) a)"

    waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        fetch("SELECT pg_advisory_lock(1)")
        patch.setitem(_DIALECTS, "postgresql", Waiting())
        planned = pool.submit(plan)
        while not fetch(waits):
            assert not planned.done(), planned.result()
        patch.undo()
        with transaction.atomic():
            TaskVersion.objects.create(
                task=task, number=2, definition={}, created_at=ledger.database_now()
            )
            Task.objects.update(version=2)
        fetch("SELECT pg_advisory_unlock(1)")
        assert planned.result().run_ids == []
    assert len(ledger.plan().run_ids) == 1
    assert TaskRun.objects.get(task=task).version.number == 2
