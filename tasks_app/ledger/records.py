"""The values that go into the ledger's verbs and come out of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created. Times are aware; None means now, by the database's clock."""

    task_id: int
    version_id: int
    trigger: str
    queue: str
    status: str = "queued"
    scheduled_for: datetime | None = None
    reason: str = ""
    triggered_by: str = ""
    trigger_reason: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    start_deadline_seconds: int | None = None
    root_id: int | None = None
    parent_id: int | None = None
    rerun_of_id: int | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Doorbell:
    """A run whose doorbell is to be rung, and on which queue."""

    run_id: int
    queue: str


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this worker may start: it holds the lease of `attempt`."""

    run_id: int
    attempt: int
    task_id: int
    task_name: str
    scheduled_for: datetime
    params: dict[str, Any]
    definition: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to speak for one attempt of a run."""

    run_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's heartbeat: what it tells of itself."""

    worker_id: int
    status: str
    current_tasks: int


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What a heartbeat learns: runs to cancel, and runs that are no longer ours."""

    cancel: frozenset[int]
    gone: frozenset[int]


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an attempt. `retry_seconds`: queue the next attempt after so long."""

    run_id: int
    attempt: int
    status: str
    exit_code: int | None = None
    result: Any = None
    error: str = ""
    reason: str = ""
    log_truncated: bool = False
    retry_seconds: float | None = None

    @property
    def lease(self) -> Lease:
        """The right that this end must still have to count."""
        return Lease(self.run_id, self.attempt)


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of an attempt's output. `age_seconds`: how long ago it was written."""

    run_id: int
    attempt: int
    seq: int
    stream: str
    text: str
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has just reached a terminal state."""

    run_id: int
    task_id: int
    root_id: int
    status: str
    scheduled_for: datetime
