"""Whether the runs of a schedule account for each of its fires exactly once (C1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tasks_app.rules.cron import TICK
from tasks_app.rules.schedules import Schedule, count_fires, newest_fires, next_fire

Kind = Literal["gap", "duplicate", "stray", "miscounted"]


@dataclass(frozen=True, slots=True)
class Reign:
    """A schedule, and the time in which each of its fires must have a run:
    (after, until]. Fires outside of it may have one. No `until`: none is demanded
    after the last run. No schedule: there must be no run at all."""

    schedule: Schedule | None
    after: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What one run accounts for: a fire, or `count` skipped ones from `first` on.

    `reign` is the index of the reign whose schedule it was planned by.
    """

    run_id: int
    reign: int
    first: datetime
    last: datetime
    count: int = 1


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """What does not add up: `count` fires from `first` to `last`, both inclusive."""

    kind: Kind
    first: datetime
    last: datetime
    count: int = 1
    run_id: int | None = None


class FireAccount:
    """Goes through a task's runs and reigns once, from the oldest to the newest.

    The cost follows the runs and not the fires: a gap is counted, not walked.
    """

    def __init__(self, reigns: Sequence[Reign]) -> None:
        self.fires = 0
        """How many fires have been looked at, accounted for or not."""
        self._reigns = reigns
        self._index = 0
        self._position = reigns[0].after
        """Up to here, all fires have been looked at."""
        self._accounted: datetime | None = None
        """The newest fire that has a run."""

    def audit(self, entries: Iterable[Entry]) -> Iterator[Discrepancy]:
        """Compare. `entries` are sorted by `first`; a run for the time of another
        may stand for it, so the message of a duplicate names the later row."""
        for entry in entries:
            while self._index < entry.reign:
                yield from self._close()
                self._index += 1
                self._position = max(self._position, self._reigns[self._index].after)
            yield from self._enter(entry)
        for index in range(self._index, len(self._reigns)):
            self._index = index
            self._position = max(self._position, self._reigns[index].after)
            yield from self._close()

    def _close(self) -> Iterator[Discrepancy]:
        """What is missing at the end of the present reign."""
        reign = self._reigns[self._index]
        if reign.schedule is not None and reign.until is not None:
            yield from self._missing(reign.schedule, reign.until)

    def _enter(self, entry: Entry) -> Iterator[Discrepancy]:
        self.fires += entry.count
        span = entry.first, entry.last, entry.count, entry.run_id
        schedule = self._reigns[entry.reign].schedule
        if self._accounted is not None and entry.first <= self._accounted:
            yield Discrepancy("duplicate", *span)
        elif schedule is None or not self._is_next(schedule, entry.first):
            if (
                schedule is None
                or next_fire(schedule, entry.first - TICK) != entry.first
            ):
                yield Discrepancy("stray", *span)
                return
            if entry.reign == self._index:
                yield from self._missing(schedule, entry.first - TICK)
        if schedule is not None and entry.count != 1:
            counted = count_fires(schedule, entry.first - TICK, entry.last)
            if counted != entry.count:
                yield Discrepancy("miscounted", *span)
        self._accounted = max(self._accounted or entry.last, entry.last)
        self._position = max(self._position, entry.last)

    def _missing(self, schedule: Schedule, until: datetime) -> Iterator[Discrepancy]:
        first = next_fire(schedule, self._position)
        if first is None or first > until:
            return
        count = count_fires(schedule, self._position, until)
        (last,) = newest_fires(schedule, self._position, until, 1)
        self.fires += count
        yield Discrepancy("gap", first, last, count)

    def _is_next(self, schedule: Schedule, at: datetime) -> bool:
        """The usual case, told by one question to the schedule instead of three."""
        return next_fire(schedule, self._position) == at
