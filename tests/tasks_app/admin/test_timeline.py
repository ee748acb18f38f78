"""The chart of a run's waits and attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks_app.admin.timeline import timeline
from tasks_app.models import RunEvent, TaskRun

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def event(
    second: int, kind: str, attempt: int, status: str, outcome: str = ""
) -> RunEvent:
    detail = {"outcome": outcome} if outcome else None
    at = START + timedelta(seconds=second)
    return RunEvent(at=at, kind=kind, attempt=attempt, status=status, detail=detail)


def drawn(
    events: list[RunEvent], status: str = "succeeded"
) -> list[tuple[object, ...]]:
    run = TaskRun(status=status, completed_at=events[-1].at)
    return [
        (row.label, row.status, row.x, row.width, row.length)
        for row in timeline(run, events)
    ]


def test_a_retried_run() -> None:
    events = [
        event(0, "created", 0, "queued"),
        event(10, "started", 1, "running"),
        event(50, "retried", 1, "queued", "failed"),
        event(80, "started", 2, "running"),
        event(100, "finished", 2, "succeeded", "succeeded"),
    ]
    assert drawn(events) == [
        ("Queued", "queued", 0.0, 10.0, "10.0 s"),
        ("Attempt 1", "failed", 10.0, 40.0, "40.0 s"),
        ("Backoff", "queued", 50.0, 30.0, "30.0 s"),
        ("Attempt 2", "succeeded", 80.0, 20.0, "20.0 s"),
    ]


@pytest.mark.parametrize("late", ["cancel_requested", "stale_result"])
def test_what_changes_nothing_draws_nothing(late: str) -> None:
    events = [
        event(0, "created", 0, "queued"),
        event(1, "started", 1, "running"),
        event(2, late, 1, "running"),
        event(4, "finished", 1, "cancelled", "cancelled"),
    ]
    assert [row[0] for row in drawn(events)] == ["Queued", "Attempt 1"]


def test_a_skipped_run_has_no_chart() -> None:
    assert drawn([event(0, "created", 0, "skipped")], "skipped") == []


def test_a_run_cancelled_while_it_waited() -> None:
    events = [
        event(0, "created", 0, "queued"),
        event(9, "finished", 0, "cancelled"),
    ]
    assert drawn(events, "cancelled") == [("Queued", "queued", 0.0, 100.0, "9.0 s")]
