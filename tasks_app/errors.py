"""What can be wrong with a request, each with a stable code and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: its path, as in a JSON Pointer, a code, and a sentence."""

    path: tuple[str, ...]
    code: str
    message: str


class DomainError(Exception):
    """A request cannot be done."""

    code = "error"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class InvalidInput(DomainError):
    """The request has invalid fields."""

    code = "invalid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__(
            "; ".join(f"{'.'.join(error.path)}: {error.message}" for error in errors)
        )

    @classmethod
    def of(cls, field: str, code: str, message: str) -> InvalidInput:
        return cls([FieldError(tuple(field.split(".")), code, message)])


class Conflict(DomainError):
    """The request does not fit the present state."""

    code = "conflict"


class RunAlreadyFinished(Conflict):
    """The run has reached a terminal state, which never changes."""

    code = "run_already_finished"


class RunNotFinished(Conflict):
    """The run has not finished yet; cancel it or wait for its end."""

    code = "run_not_finished"


class NothingFailed(Conflict):
    """No run of the workflow has failed; run a single run again instead."""

    code = "nothing_failed"


class TaskDeleted(Conflict):
    """The task has been deleted."""

    code = "task_deleted"


class NoSchedule(Conflict):
    """The task has no schedule, hence no nominal times."""

    code = "no_schedule"


class CalendarInUse(Conflict):
    """Tasks or projects have this calendar."""

    code = "calendar_in_use"


class TooManyQueuedRuns(DomainError):
    """As many runs of the task wait as may; try again when some have started."""

    code = "too_many_queued_runs"


class HistoryAway(DomainError):
    """The history database does not answer; what is asked for is there, or nowhere."""

    code = "history_unreachable"


class IdempotencyKeyReused(DomainError):
    """This Idempotency-Key was used with another request body."""

    code = "idempotency_key_reused"


class VersionMismatch(DomainError):
    """The task has been changed since; read it again."""

    code = "version_mismatch"
