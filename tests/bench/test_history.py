"""The measurement of reading a long history: what it makes, and what it reports."""

from __future__ import annotations

from datetime import timedelta

from scheduler_project.bench.history import Answered, Case, rows
from scheduler_project.bench.history_rows import _last_before


def test_a_group_is_as_slow_as_its_slowest_request() -> None:
    answers = [
        Answered(Case("by a filter", "/a"), worst_ms=900.0, median_ms=10.0, results=1),
        Answered(Case("by a filter", "/b"), worst_ms=60.0, median_ms=50.0, results=0),
        Answered(Case("task page", "/c"), worst_ms=130.0, median_ms=120.0, results=0),
    ]
    found = list(rows(answers, 1000))
    assert [(row.name, row.value, row.met) for row in found] == [
        ("1,000 runs: by a filter, slowest of 2", 50.0, True),
        ("1,000 runs: task page", 120.0, False),
    ]


def test_no_workflow_reaches_into_the_next_month() -> None:
    """Every 33rd run has two below it, which have its day."""
    step = timedelta(seconds=1)
    for seconds in range(1, 200):
        last = _last_before(timedelta(seconds=seconds), step)
        assert last >= seconds - 1
        assert (last + 1) % 33 not in (1, 2)
