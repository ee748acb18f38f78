"""What the demo's runs came to, beside what was expected of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from scheduler_project.local.demo_tasks import DemoTask, Expected
from tasks_app.choices import EventKind
from tasks_app.models import RunEvent, RunLog, TaskRun
from tasks_app.rules.states import TERMINAL


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run, as the demo's table shows it."""

    run: int
    task: str
    trigger: str
    status: str
    attempts: int
    exit_code: int | None
    queued_ms: int | None
    """From the run's creation to the start of its first attempt."""
    duration_ms: int | None
    """Of its last attempt."""
    output: str
    """The first line of its last attempt's output."""

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL


def run_rows() -> list[RunRow]:
    """All runs of the database, in order of their creation."""
    runs = list(TaskRun.objects.select_related("task").order_by("id"))
    starts = dict(
        RunEvent.objects.filter(kind=EventKind.STARTED, attempt=1).values_list(
            "run_id", "at"
        )
    )
    return [
        RunRow(
            run=run.pk,
            task=run.task.name,
            trigger=run.trigger,
            status=run.status,
            attempts=run.attempt,
            exit_code=run.exit_code,
            queued_ms=_ms(starts[run.pk] - run.created_at)
            if run.pk in starts
            else None,
            duration_ms=_ms(run.completed_at - run.started_at)
            if run.completed_at and run.started_at
            else None,
            output=_first_line(run),
        )
        for run in runs
    ]


def _ms(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)


def _first_line(run: TaskRun) -> str:
    log = RunLog.objects.filter(run=run, attempt=run.attempt).order_by("seq").first()
    return log.text.partition("\n")[0] if log else ""


def is_over(demos: Sequence[DemoTask], rows: Sequence[RunRow]) -> bool:
    """Whether every expected run is there."""
    counts = [sum(row.task == demo.name for row in rows) for demo in demos]
    return all(
        count >= (demo.expected.runs or 1)
        for count, demo in zip(counts, demos, strict=True)
    )


def problems(demos: Sequence[DemoTask], rows: Sequence[RunRow]) -> Iterator[str]:
    """A sentence for everything that is not as expected."""
    for demo in demos:
        own = [row for row in rows if row.task == demo.name]
        count = demo.expected.runs
        if not own or len(own) != (count or len(own)):
            yield f"{demo.name} ran {len(own)} times, not {count or 'at least once'}."
        for row in own:
            for name, (found, wanted) in _differences(row, demo.expected).items():
                yield f"{demo.name} (run {row.run}) has {name} {found}, not {wanted}."


def _differences(
    row: RunRow, expected: Expected
) -> Mapping[str, tuple[object, object]]:
    pairs: dict[str, tuple[object, object]] = {
        "status": (row.status, expected.status),
        "trigger": (row.trigger, expected.trigger),
        "attempts": (row.attempts, expected.attempts),
        "exit code": (row.exit_code, expected.exit_code),
        "output": (row.output, expected.output),
    }
    return {
        name: pair
        for name, pair in pairs.items()
        if pair[1] is not None and pair[0] != pair[1]
    }


def table(rows: Sequence[RunRow]) -> Table:
    """The runs as a table for people; what does not fit is cut from the output."""
    title = "What the demo tasks did"
    shown = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False
    )
    for heading, width in (("Task", 13), ("Trigger", 10), ("Status", 9)):
        shown.add_column(heading, min_width=width)
    for heading, width in (("Exit code", 4), ("Queued to started", 9), ("Duration", 8)):
        shown.add_column(heading, min_width=width, justify="right")
    shown.add_column("First output line", no_wrap=True, overflow="ellipsis")
    for row in rows:
        shown.add_row(
            *(row.task, row.trigger, row.status, _text(row.exit_code)),
            *(_text(row.queued_ms, " ms"), _text(row.duration_ms, " ms")),
            escape(row.output),
        )
    return shown


def _text(number: int | None, unit: str = "") -> str:
    return "" if number is None else f"{number}{unit}"
