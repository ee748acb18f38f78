"""What can be measured: one table, from which the command makes its options.

A measurement `name` is the function `name` of the module `name` of this package. It
takes a rig, and its count by the keyword `counts`; it yields rows as it finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the table: `count` as usual, `full` with --full, both in `counts`."""

    name: str
    about: str
    counts: str = ""
    count: int | None = None
    full: int | None = None
    is_usual: bool = False
    """Whether it is measured where none is named."""
    is_of_broker: bool = True
    """Whether it is measured anew with each broker."""

    @property
    def is_there(self) -> bool:
        """Whether its module is part of this version."""
        return find_spec(self._module) is not None

    def rows(self, rig: Rig, count: int | None, *, is_full: bool) -> Iterator[Row]:
        """Measure on `rig`, with `count` if one is given.

        Raises:
            BenchError: it has found nothing that counts.
        """
        number = count or (self.full if is_full else self.count)
        keywords = {self.counts: number} if self.counts and number else {}
        measure: Callable[..., Iterator[Row]] = getattr(
            import_module(self._module), self.name
        )
        return measure(rig, **keywords)

    @property
    def _module(self) -> str:
        return f"scheduler_project.bench.{self.name}"


MEASUREMENTS = (
    Measurement(
        "throughput",
        "shell runs per second, beside the peers",
        counts="runs", count=3_000, full=60_000, is_usual=True,
    ),
    Measurement(
        "latency",
        "trigger by the API to start, one run after another",
        counts="runs", count=200, full=1_000, is_usual=True,
    ),
    Measurement(
        "rates",
        "queued to started, at steady rates",
        counts="seconds", count=10, full=20, is_usual=True,
    ),
    Measurement(
        "burst",
        "tasks that fall due in one second, with two beats",
        counts="tasks", count=1_000, full=10_000,
    ),
    Measurement(
        "schedules",
        "what a fire costs beat, and how late it starts, among many schedules",
        counts="tasks", count=10_000, full=100_000, is_of_broker=False,
    ),
    Measurement("memory", "memory of each idle service"),
    Measurement(
        "concurrency",
        "jobs that one worker holds, and how soon all are cancelled",
        is_of_broker=False,
    ),
    Measurement(
        "history",
        "reading a ledger of many runs by API and admin site",
        counts="runs", count=1_000_000, full=10_000_000, is_of_broker=False,
    ),
    Measurement(
        "nodes", "many workers on one ledger", counts="nodes", count=20, full=100
    ),
    Measurement(
        "brokers",
        "messages per second through Redis Streams and lists",
        counts="messages", count=2_000, full=20_000,
    ),
    Measurement(
        "soak",
        "memory before and after many runs",
        counts="runs", count=20_000, full=200_000, is_of_broker=False,
    ),
)  # fmt: skip
