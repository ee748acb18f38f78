"""One trial: load and faults, then peace, then the reckoning."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.db.models import Count

from scheduler_project.chaos import traces
from scheduler_project.chaos.arena import FAST, POLL_SECONDS, Arena
from scheduler_project.chaos.faults import Fault, fault_plan
from scheduler_project.chaos.load import Load, patient, unfinished
from tasks_app.ledger.verifying import MEANINGS, Verifier
from tasks_app.models import TaskRun

DRAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Breach:
    """A finding: the promise, what kind of breach it is, and what was seen."""

    promise: str
    kind: str
    text: str


@dataclass(slots=True)
class Result:
    """What a trial did and came to."""

    seed: int
    seconds: float
    broker: str
    mutant: str | None
    faults: Mapping[str, int] = field(default_factory=dict)
    own_ends: Mapping[str, int] = field(default_factory=dict)
    """Processes that ended although nothing had struck them."""
    runs: Mapping[str, int] = field(default_factory=dict)
    jobs: int = 0
    checked: Mapping[str, int] = field(default_factory=dict)
    drain_seconds: float = 0.0
    findings: Sequence[Breach] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


PROMISES = {"job started twice": "C4", "jobs overlap": "C6", "too many jobs": "C10"}


class Trial:
    """Runs on an arena that has been started. `tell` gets a line of progress."""

    def __init__(
        self, arena: Arena, folder: Path, result: Result, tell: Callable[[str], None]
    ) -> None:
        self._arena = arena
        self._folder = folder
        self._result = result
        self._tell = tell
        self._load = Load(result.seed, folder, arena.mark)

    def run(self, counts: Mapping[str, int]) -> None:
        """Fill the result.

        Raises:
            PlatformError: the platform does not come back after the faults.
        """
        result = self._result
        plan = fault_plan(result.seed, result.seconds, counts, FAST["LEASE_SECONDS"])
        self._load.create()
        self._strike(plan)
        self._tell("The faults are over: everything is brought back.")
        self._arena.heal()
        patient(self._load.pause)
        result.drain_seconds = self._drain()
        self._arena.stop_work()
        self._reckon()

    def _strike(self, plan: Sequence[Fault]) -> None:
        begun = time.monotonic()
        coming = list(reversed(plan))
        while (passed := time.monotonic() - begun) < self._result.seconds:
            while coming and coming[-1].at <= passed:
                fault = coming.pop()
                self._arena.apply(fault)
                struck = self._arena.faults.total()
                self._tell(
                    f"{passed:4.0f} of {self._result.seconds:g} s, {struck} faults:"
                    f" {fault.kind}"
                )
            self._arena.tend()
            self._load.step()
            time.sleep(POLL_SECONDS)

    def _drain(self) -> float:
        """How long the work that was left took; at most DRAIN_SECONDS."""
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < DRAIN_SECONDS:
            if not (left := patient(unfinished)):
                break
            self._tell(f"{left} runs are not over yet ({passed:.0f} s).")
            self._arena.tend()
            time.sleep(4 * POLL_SECONDS)
        return passed

    def _reckon(self) -> None:
        result = self._result
        result.faults = dict(sorted(self._arena.faults.items()))
        result.own_ends = dict(self._arena.own_ends)
        counted = TaskRun.objects.values_list("status").annotate(Count("id"))
        result.runs = dict(counted.order_by("status"))
        spans = traces.read(self._folder / "traces")
        result.jobs = len(spans)
        verifier = Verifier()
        result.findings = [
            *self._lost(),
            *_verified(verifier),
            *(
                Breach(
                    PROMISES[wrong.kind],
                    wrong.kind,
                    f"run {wrong.run_id}: {wrong.text}",
                )
                for wrong in traces.breaches(spans, self._load.rules())
            ),
        ]
        result.checked = asdict(verifier.checked)

    def _lost(self) -> Iterator[Breach]:
        """Runs that were accepted and are not there, or never end."""
        accepted = self._load.accepted
        there = set(
            TaskRun.objects.filter(pk__in=accepted).values_list("pk", flat=True)
        )
        for run_id in accepted:
            if run_id not in there:
                yield Breach(
                    "C2", "lost", f"run {run_id} was accepted and is not there"
                )
        left = TaskRun.objects.unfinished().values_list("id", "status", "task__name")
        for run_id, status, task in left:
            text = f"run {run_id} of {task} is {status} after {DRAIN_SECONDS:g} s"
            yield Breach("C2", "never ends", text)


def _verified(verifier: Verifier) -> Iterator[Breach]:
    for task_id in verifier.task_ids():
        for found in verifier.findings(task_id):
            run = f" run {found.run_id}" if found.run_id else ""
            at = f" at {found.at:%H:%M:%S.%f}" if found.at else ""
            text = f"{found.task}{run}{at}: {found.text}"
            yield Breach(MEANINGS[found.kind][0], found.kind, text)


def kinds(findings: Sequence[Breach]) -> Counter[tuple[str, str]]:
    """How many findings of each kind, by promise."""
    return Counter((found.promise, found.kind) for found in findings)
