"""What the jobs say of themselves: a line at each start, and others while they run.

Rows can be wrong together. These lines come from inside of the jobs, by the clock of
the one machine that all of them run on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

JOB = """\
# job.sh TICKS [FAILS]: runs for TICKS x 0.2 s; the first FAILS attempts fail.
say() {
    read -r up _ < /proc/uptime || up=$(date +%s)
    printf '%s %s %s %s %s\\n' "$1" "$GNOMON_RUN_ID" "$GNOMON_ATTEMPT" "$up" \\
        "$GNOMON_TASK" >> "${0%/*}/traces"
}
say start
tick=0
while [ "$tick" -lt "$1" ]; do
    sleep 0.2
    tick=$((tick + 1))
    say tick
done
[ "$GNOMON_ATTEMPT" -gt "${2:-0}" ]
"""
"""Appended in one write each, the lines of all jobs share a file."""
RESOLUTION_SECONDS = 0.03
"""Of /proc/uptime it is 0.01 s."""


@dataclass(slots=True)
class Span:
    """An attempt, from inside: it lived at least from `first` to `last` (seconds)."""

    task: str
    first: float
    last: float
    starts: int = 0


Spans = Mapping[tuple[int, int], Span]
"""By the ids of runs and the numbers of attempts."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a task allows, as far as its jobs can show it."""

    is_at_most_once: bool = True
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Breach:
    kind: str
    run_id: int
    text: str


def read(path: Path) -> Spans:
    spans: dict[tuple[int, int], Span] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        what, run_id, attempt, up, task = line.split(" ", 4)
        key, at = (int(run_id), int(attempt)), float(up)
        span = spans.setdefault(key, Span(task, at, at))
        span.last = at
        span.starts += what == "start"
    return spans


def breaches(spans: Spans, rules: Mapping[str, Rule]) -> Iterator[Breach]:
    """What no promise allows jobs to do. Tasks that have no rule are passed over."""
    attempts: dict[int, list[tuple[int, Span]]] = defaultdict(list)
    by_task: dict[str, list[tuple[int, Span]]] = defaultdict(list)
    for (run_id, attempt), span in sorted(spans.items()):
        if span.task in rules:
            attempts[run_id].append((attempt, span))
            by_task[span.task].append((run_id, span))
    for run_id, found in attempts.items():
        yield from _starts(run_id, found, rules[found[0][1].task])
        yield from _overlaps(run_id, found)
    for task, members in by_task.items():
        if limit := rules[task].max_concurrency:
            yield from _excesses(members, limit)


def _starts(
    run_id: int, attempts: list[tuple[int, Span]], rule: Rule
) -> Iterator[Breach]:
    starts = sum(span.starts for _, span in attempts)
    if rule.is_at_most_once and starts > 1:
        text = f"the command of an at_most_once run was started {starts} times"
        yield Breach("job started twice", run_id, text)
    for attempt, span in attempts:
        if not rule.is_at_most_once and span.starts > 1:
            text = f"the command of attempt {attempt} was started {span.starts} times"
            yield Breach("job started twice", run_id, text)


def _overlaps(run_id: int, attempts: list[tuple[int, Span]]) -> Iterator[Breach]:
    latest, number = float("-inf"), 0
    for attempt, span in attempts:
        if (seconds := latest - span.first) > RESOLUTION_SECONDS:
            text = f"attempts {number} and {attempt} ran together for {seconds:.2f} s"
            yield Breach("jobs overlap", run_id, text)
        if span.last > latest:
            latest, number = span.last, attempt


def _excesses(members: Iterable[tuple[int, Span]], limit: int) -> Iterator[Breach]:
    """More attempts at a time than the limit, each named once, when it joins."""
    running: list[float] = []
    for run_id, span in sorted(members, key=lambda member: member[1].first):
        running = [end for end in running if end > span.first + RESOLUTION_SECONDS]
        running.append(span.last)
        if len(running) > limit:
            text = f"{len(running)} jobs of {span.task} ran together, of {limit}"
            yield Breach("too many jobs", run_id, text)
