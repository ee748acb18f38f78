"""The geometry of the small charts: plain numbers that a tag draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks_app.choices import RunStatus
from tasks_app.formats import run_duration, run_status
from tasks_app.ledger.searching import RecentRun
from tasks_app.models import TaskRun

HEIGHT = 24
WIDTH = 5
GAP = 2


@dataclass(frozen=True, slots=True)
class Bar:
    """One run: its place, its size, and what a tooltip says."""

    x: int
    y: float
    height: float
    status: str
    label: str
    run_id: int | None = None
    seconds: float | None = None


def bars(runs: Sequence[TaskRun | RecentRun], slots: int) -> list[Bar]:
    """The runs, oldest first, right-aligned in `slots` places.

    The height tells the duration, relative to the longest one shown. A run that
    failed has full height: colour is not its only mark.
    """
    seconds = [_seconds_of(run) for run in runs]
    labels = {status: run_status(status) for status in {run.status for run in runs}}
    longest = max((s for s in seconds if s is not None), default=0.0) or 1.0
    first = slots - len(runs)
    empty = [
        Bar(_x(index), HEIGHT - 3, 3, "none", "") for index in range(max(first, 0))
    ]
    return empty + [
        _bar(run, labels[run.status], _x(first + index), took, longest)
        for index, (run, took) in enumerate(zip(runs, seconds, strict=True))
    ]


def _x(index: int) -> int:
    return index * (WIDTH + GAP)


_FULL = {RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.LOST}


def _bar(
    run: TaskRun | RecentRun, label: str, x: int, took: float | None, longest: float
) -> Bar:
    share = 1.0 if run.status in _FULL else (took or 0.0) / longest
    height = round(max(share * HEIGHT, 4.0), 1)
    return Bar(
        x,
        round(HEIGHT - height, 1),
        height,
        run.status,
        label,
        run.pk,
        took,
    )


def _seconds_of(run: TaskRun | RecentRun) -> float | None:
    took = run_duration(run)
    return None if took is None else took.total_seconds()
