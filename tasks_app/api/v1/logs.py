"""Reading a run's output, page by page, with one number as the place in it.

The ledger numbers chunks per attempt. Here a chunk's `seq` counts over all attempts,
so that one number is a place to go on from, whatever was retried meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from tasks_app.models import RunLog, TaskRun
from tasks_app.rules.states import TERMINAL
from tasks_app.run_history import database_of

SEQS_PER_ATTEMPT = 1_000_000_000
"""More chunks than an attempt can have: 64 KiB or a second each."""
MAX_SEQ = 2**53 - 1  # what a JavaScript number holds


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of output; `seq` is its place in the run's whole output."""

    seq: int
    attempt: int
    at: datetime
    stream: str
    text: str


def chunks_after(
    run_id: int, after: int, limit: int, attempt: int | None = None
) -> list[Chunk]:
    """The next chunks, at most `limit`, of all attempts or of one."""
    earlier, seq = divmod(after, SEQS_PER_ATTEMPT)
    logs = RunLog.objects.using(database_of(run_id)).filter(run=run_id)
    logs = logs.filter(Q(attempt=earlier + 1, seq__gt=seq) | Q(attempt__gt=earlier + 1))
    if attempt is not None:
        logs = logs.filter(attempt=attempt)
    return [
        Chunk(
            (log.attempt - 1) * SEQS_PER_ATTEMPT + log.seq,
            log.attempt,
            log.at,
            log.stream,
            log.text,
        )
        for log in logs.order_by("attempt", "seq")[:limit]
    ]


def pages_of_text(run_id: int, attempt: int | None) -> Iterator[str]:
    """The whole output, some chunks at a time."""
    after = 0
    while chunks := chunks_after(run_id, after, 64, attempt):
        yield "".join(chunk.text for chunk in chunks)
        after = chunks[-1].seq


def run_state(run_id: int) -> Mapping[str, Any] | None:
    """What a follower of the run wants to know of its state."""
    return (
        TaskRun.objects.using(database_of(run_id))
        .filter(pk=run_id)
        .values(
            "status", "attempt", "due_at", "started_at", "completed_at", "exit_code"
        )
        .first()
    )


def has_ended(state: Mapping[str, Any] | None) -> bool:
    return state is None or state["status"] in TERMINAL
