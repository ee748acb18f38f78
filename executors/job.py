"""A job as its supervisor sees it: a session to be signalled, and when it must end."""

from __future__ import annotations

import os
import time

# signal.py would cost a fifth of the memory for no use, contextlib.py a sixth.
from _signal import SIGCONT, SIGTERM  # type: ignore[import-not-found]  # no stub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any


class Ignoring:
    """As contextlib.suppress."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> bool:
        return kind is not None and issubclass(kind, self._errors)


def now() -> float:
    """Seconds on a clock that the whole host shares and that goes on in a suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Job:
    """A command; `pid` is 0 until it has been started."""

    __slots__ = (
        "clear_by", "is_repeatable", "kill_at", "lease", "number", "pid", "reason",
        "renewed_at", "status",
    )  # fmt: skip

    def __init__(self, number: int, lease: tuple[Any, bool, float] | None):
        self.number = number
        self.pid = 0
        self.lease: Any = None
        self.is_repeatable = False
        self.renewed_at = 0.0
        if lease is not None:
            self.lease, self.is_repeatable, self.renewed_at = lease
        self.kill_at: float | None = None
        self.clear_by = 0.0
        self.reason = ""
        self.status = 0

    def signal(self, number: int) -> None:
        if not self.pid:
            return
        # PermissionError: all that is left has changed its user.
        with Ignoring(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def stop(self, kill_at: float, reason: str = "") -> None:
        """SIGTERM now, SIGKILL then; stopping again can only bring that forward."""
        if self.kill_at is None:
            self.reason = reason
            self.kill_at = kill_at
            self.terminate()
        self.kill_at = min(self.kill_at, kill_at)

    def terminate(self) -> None:
        self.signal(SIGTERM)
        self.signal(SIGCONT)  # a stopped one would not see the SIGTERM
