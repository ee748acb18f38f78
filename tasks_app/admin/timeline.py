"""The timeline of a run: waits and attempts as bars, drawn from its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext as _

from tasks_app.choices import EventKind, RunStatus
from tasks_app.formats import duration
from tasks_app.models import RunEvent, TaskRun

ATTEMPTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: a wait, or an attempt with the status it ended in."""

    label: str
    status: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """A span in the chart: its place as a share of the whole, in percent."""

    label: str
    status: str
    x: float
    width: float
    length: str


def timeline(run: TaskRun, events: Sequence[RunEvent]) -> list[Row]:
    """One row for each span; none for a run that never waited to start."""
    spans = _spans(run, events)[-2 * ATTEMPTS_SHOWN :]
    if not spans:
        return []
    start, end = spans[0].start, max(span.end for span in spans)
    whole = (end - start).total_seconds() or 1.0
    return [_row(span, start, whole) for span in spans]


def _row(span: Span, start: datetime, whole: float) -> Row:
    x = 100 * (span.start - start).total_seconds() / whole
    width = 100 * (span.end - span.start).total_seconds() / whole
    width = max(width, 0.4)  # what is too short to see is still there
    return Row(
        span.label,
        span.status,
        round(min(x, 100 - width), 2),
        round(width, 2),
        duration(span.end - span.start),
    )


def _spans(run: TaskRun, events: Sequence[RunEvent]) -> list[Span]:
    spans: list[Span] = []
    began: RunEvent | None = None  # what the run is in: a wait, or an attempt
    for event in events:
        if event.kind not in _TURNS or event.status == RunStatus.SKIPPED:
            continue
        if began:
            spans.append(_span(began, event.at, _outcome(event)))
        began = None if event.kind == EventKind.FINISHED else event
    if began:
        spans.append(_span(began, run.completed_at or timezone.now(), run.status))
    return spans


_TURNS = {
    EventKind.CREATED,
    EventKind.STARTED,
    EventKind.RETRIED,
    EventKind.FINISHED,
}
"""The events at which a run goes from waiting to working, or back."""


def _span(began: RunEvent, end: datetime, status: str) -> Span:
    end = max(began.at, end)
    if began.kind == EventKind.STARTED:
        return Span(_("Attempt %d") % began.attempt, status, began.at, end)
    label = _("Backoff") if began.kind == EventKind.RETRIED else _("Queued")
    return Span(label, RunStatus.QUEUED, began.at, end)


def _outcome(event: RunEvent) -> str:
    """How the attempt ended: for a retry, the run's status tells only that it waits."""
    detail = event.detail or {}
    return str(detail.get("outcome") or event.status)
