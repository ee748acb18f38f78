"""Jobs that keep an account of themselves: what is measured from the inside."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from django.db.models import Count

from tasks_app.models import RunEvent, Task, TaskRun


@dataclass(frozen=True, slots=True)
class Line:
    """What an attempt did, and when (seconds since 1970, by the host's clock)."""

    what: str
    run_id: int
    attempt: int
    at: float


@dataclass(frozen=True, slots=True)
class Diary:
    """A file to which every attempt of a task writes."""

    path: Path

    def entry(self, what: str) -> str:
        """A shell command that writes a line."""
        words = f"{what} $GNOMON_RUN_ID $GNOMON_ATTEMPT $(date +%s.%N)"
        return f'echo "{words}" >> {self.path}'

    def living(self, rest: str = "") -> str:
        """A job that shows that it lives until it is killed; `rest` comes before."""
        loop = f"while :; do {self.entry('lives')}; sleep 0.1; done"
        return f"{self.entry('begins')}; {rest} {loop}"

    def lines(self, what: str = "") -> list[Line]:
        if not self.path.exists():
            return []
        words = [line.split() for line in self.path.read_text().splitlines()]
        lines = [Line(w[0], int(w[1]), int(w[2]), float(w[3])) for w in words]
        return [line for line in lines if what in {"", line.what}]

    def starts(self) -> list[tuple[int, int]]:
        """The attempts that began, each as often as it did, in the order of ids."""
        return sorted((line.run_id, line.attempt) for line in self.lines("begins"))


def assert_no_overlap(diary: Diary) -> None:
    """C6: nothing of an attempt lives on beside the next one."""
    for start in diary.lines("begins"):
        earlier = [
            line.at
            for line in diary.lines()
            if line.run_id == start.run_id and line.attempt < start.attempt
        ]
        assert not earlier or max(earlier) < start.at, (
            f"attempt {start.attempt - 1} lived {max(earlier) - start.at:.2f} s beside"
            f" attempt {start.attempt}"
        )


def assert_every_second_once(task: Task) -> None:
    """C1: from the first fire to the cursor each second has one run, none skipped."""
    task.refresh_from_db()
    runs = task.runs.filter(trigger="schedule")
    times = sorted(runs.values_list("scheduled_for", flat=True))
    seconds = [round(at.timestamp()) for at in times]
    assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))
    assert not runs.filter(status="skipped").exists()
    assert task.next_fire_at
    assert round(task.next_fire_at.timestamp()) == seconds[-1] + 1


def assert_one_outcome_each() -> None:
    """C2 and C5, by rows and events."""
    unfinished = TaskRun.objects.unfinished().values_list("id", "status", "attempt")
    assert list(unfinished) == []
    ends = RunEvent.objects.filter(kind="finished").values("run").annotate(n=Count("*"))
    assert list(ends.filter(n__gt=1)) == []
    ended = TaskRun.objects.exclude(status="skipped").count()
    assert ends.count() == ended


def wait(seconds: float) -> None:
    """The length of a fault: the time for which something is down or frozen."""
    time.sleep(seconds)
