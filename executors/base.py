"""What every executor takes and gives: a context in, an outcome out.

An executor knows how one attempt's work is done and nothing else: no database, no
broker, no framework. Cancel and timeout reach it as one thing, the cancellation of
its coroutine; before it lets go it must have stopped all that it started.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from executors.supervisor import JobLease

Stream = Literal["stdout", "stderr"]
WriteOutput = Callable[[Stream, bytes], None]


class OutcomeStatus(enum.Enum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt.

    `exit_code` is the process's exit code, or minus the signal's number that killed
    it; None where no process ran. `result` is a JSON value. `error` is a sentence
    for people; `reason` a stable code for programs ("exit_code", "timeout", ...).
    """

    status: OutcomeStatus
    exit_code: int | None = None
    result: Any = None
    error: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What one attempt needs to know.

    `payload` has passed the executor's schema. `environment` holds what the platform
    tells the job (`GNOMON_RUN_ID`, `GNOMON_ATTEMPT`, `GNOMON_SCHEDULED_FOR`,
    `PARAM_*`). `write` takes output as it comes, never blocks, and may drop what
    exceeds a cap. `grace_seconds` is the time between SIGTERM and SIGKILL. `lease` is
    what the job may not outlive; None where there is no ledger.
    """

    payload: Mapping[str, Any]
    environment: Mapping[str, str]
    write: WriteOutput
    grace_seconds: float = 10.0
    lease: JobLease | None = None


@runtime_checkable
class Executor(Protocol):
    """One way of doing work. Registered by name under `gnomon.executors`.

    Two more methods may be there: `target(payload) -> str` says what host and port a
    payload calls, and `async aclose()` gives back what is held for the running loop.
    """

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema (2020-12) of the payload; `command` in it is what to run."""
        ...

    async def run(self, context: RunContext) -> Outcome:
        """Do the work of one attempt; on cancellation, stop it all and re-raise."""
        ...
