"""The values that go into the ledger's verbs and come out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tasks_app.choices import Admission
from tasks_app.ledger.dialects import as_time


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created. Times are aware; None means now, by the database's clock.

    `lane` is the task's own unless it is given, and so are its priority and target.
    """

    task_id: int
    version_id: int
    trigger: str
    queue: str
    status: str = "queued"
    scheduled_for: datetime | None = None
    due_at: datetime | None = None
    reason: str = ""
    triggered_by: str = ""
    trigger_reason: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    start_deadline_seconds: float | None = None
    root_id: int | None = None
    parent_id: int | None = None
    rerun_of_id: int | None = None
    result: Any = None
    lane: str = ""
    shard_index: int = 0
    shard_total: int = 1
    wanted_worker_id: int | None = None
    wish_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Doorbell:
    """A run that a worker of this queue and lane may claim now; or, with `worker_id`,
    a run of that worker that is to stop."""

    queue: str
    lane: str
    worker_id: int | None = None


@dataclass(frozen=True, slots=True)
class Claimant:
    """A worker that asks for runs: of its queues, and of the lanes that are for its
    name or its tags."""

    worker_id: int
    queues: tuple[str, ...]
    name: str = ""
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a worker may find, as it was a moment ago: the lanes in which runs wait for
    it, the common one first, and whether any queue of its has a limit."""

    lanes: tuple[str, ...]
    has_limits: bool


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
    shard_index: int = 0
    shard_total: int = 1


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
    """What a heartbeat learns: runs to cancel, runs that are no longer ours, and
    whether to claim nothing more."""

    cancel: frozenset[int]
    gone: frozenset[int]
    is_draining: bool = False


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
class LogCut:
    """The middle of too much output: its chunks go, and a remark takes their place.

    The chunks are those after the remark's, up to `last_seq`. `cut_bytes` is all that
    has been cut so far, so a later cut of an attempt stands for the earlier ones.
    """

    run_id: int
    attempt: int
    remark_seq: int
    last_seq: int
    cut_bytes: int


ENDED = """id, tasks_app_taskrun.attempt, tasks_app_taskrun.status, task_id,
    COALESCE(root_id, id) AS root, scheduled_for, admission,
    EXISTS (SELECT 1 FROM tasks_app_taskdependency d WHERE d.parent_id = task_id)
        AS is_parent"""
ENDED_KINDS = {
    "id": "int", "attempt": "int", "status": "text", "task_id": "int", "root": "int",
    "scheduled_for": "time", "admission": "text", "is_parent": "bool",
}  # fmt: skip
"""What an UPDATE of tasks_app_taskrun has to return first, for `Ended.of`."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has just reached a terminal state.

    `is_parent`: tasks depend on its task, as far as is known. It is read with the end,
    for to ask for children that most tasks do not have cost more than the end.
    """

    run_id: int
    task_id: int
    root_id: int
    status: str
    scheduled_for: datetime
    is_admitted: bool = False
    is_parent: bool = True

    @classmethod
    def of(cls, row: Sequence[Any]) -> Ended:
        """From a row that begins with the columns ENDED."""
        run_id, _, status, task_id, root_id, scheduled_for, admission, is_parent = row[
            :8
        ]
        return cls(
            run_id,
            task_id,
            root_id,
            status,
            as_time(scheduled_for),
            is_admitted=admission != Admission.FREE,
            is_parent=bool(is_parent),
        )
