"""Whether what is recorded of a run can have happened: its events, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tasks_app.rules.states import TERMINAL

Kind = Literal[
    "two_outcomes",
    "changed_after_end",
    "outcome_differs",
    "started_twice",
    "too_many_attempts",
    "overlapping_attempts",
]

_ENDS = frozenset({"finished", "retried"})
"""The events that end an attempt."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One event, as far as it matters here; `status` is the run's after it."""

    kind: str
    attempt: int
    status: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the run's own row says, and what its task allowed."""

    status: str
    is_at_most_once: bool
    max_attempts: int


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What is wrong, and since when it shows."""

    kind: Kind
    text: str
    at: datetime | None = None


def contradictions(run: Recorded, moments: Sequence[Moment]) -> Iterator[Contradiction]:
    """Everything in a run's events, in their order, that no promise allows."""
    starts = [moment for moment in moments if moment.kind == "started"]
    ends = [moment for moment in moments if moment.kind == "finished"]
    if len(ends) > 1:
        said = ", ".join(f"{end.status} (attempt {end.attempt})" for end in ends)
        yield Contradiction("two_outcomes", f"ended as {said}", ends[1].at)
    yield from _after_end(moments)
    yield from _outcome(run, moments)
    if run.is_at_most_once and len(starts) > 1:
        yield Contradiction(
            "started_twice", f"was started {len(starts)} times", starts[1].at
        )
    elif len(starts) > run.max_attempts:
        yield Contradiction(
            "too_many_attempts",
            f"had {len(starts)} attempts of {run.max_attempts}",
            starts[run.max_attempts].at,
        )
    yield from _overlaps(moments)


def _after_end(moments: Sequence[Moment]) -> Iterator[Contradiction]:
    """A late result that was refused is no change; all else is one."""
    is_over = False
    for moment in moments:
        if is_over and moment.kind in {"started", "retried", "cancel_requested"}:
            text = f"had ended, and then: {moment.kind} (attempt {moment.attempt})"
            yield Contradiction("changed_after_end", text, moment.at)
        is_over = is_over or moment.kind == "finished"


def _outcome(run: Recorded, moments: Sequence[Moment]) -> Iterator[Contradiction]:
    """The row and the record tell the same end. A skipped run ends as it begins."""
    told = [
        moment.status
        for moment in moments
        if moment.status in TERMINAL and moment.kind in {"created", "finished"}
    ]
    if run.status in TERMINAL and run.status not in told:
        said = ", ".join(told) or "no end"
        text = f"its row says {run.status}, its events say {said}"
        yield Contradiction("outcome_differs", text)
    elif run.status not in TERMINAL and told:
        text = f"its row says {run.status}, its events say {', '.join(told)}"
        yield Contradiction("changed_after_end", text)


def _overlaps(moments: Sequence[Moment]) -> Iterator[Contradiction]:
    """An attempt starts only after the one before it was given up."""
    running: int | None = None
    for moment in moments:
        if moment.kind == "started":
            if running is not None:
                text = f"attempt {moment.attempt} started during attempt {running}"
                yield Contradiction("overlapping_attempts", text, moment.at)
            running = moment.attempt
        elif moment.kind in _ENDS and moment.attempt == running:
            running = None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `runs` at a time, from `since` on; None: any number."""

    since: datetime
    runs: int | None


@dataclass(frozen=True, slots=True)
class Excess:
    """A start that was one too many: `runs` is how many ran then."""

    run_id: int
    at: datetime
    runs: int
    limit: int


def excesses(
    limits: Sequence[Limit], moments: Iterable[tuple[int, Moment]]
) -> Iterator[Excess]:
    """The starts beyond the limit, of events (by run id) in the order of their times.

    A limit that is lowered stops nobody who runs already: only starts are judged.
    """
    running: dict[int, int] = {}
    index = 0
    for run_id, moment in moments:
        while index + 1 < len(limits) and limits[index + 1].since <= moment.at:
            index += 1
        if moment.kind == "started":
            running[run_id] = moment.attempt
            limit = limits[index].runs
            if limit is not None and len(running) > limit:
                yield Excess(run_id, moment.at, len(running), limit)
        elif running.get(run_id) == moment.attempt and moment.kind in _ENDS:
            del running[run_id]
