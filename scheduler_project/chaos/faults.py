"""Which faults strike, when, and whom: decided before the first one, by a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

BEAT_AND_WORKER_FAULTS = {
    "kill worker": 5,
    "freeze worker": 5,
    "restart worker": 2,
    "kill beat": 3,
    "freeze beat": 3,
    "restart beat": 1,
}
"""What strikes how often, in parts. A kill is SIGKILL, a freeze SIGSTOP and SIGCONT."""
OWN_BROKER_FAULTS = {"wipe broker": 2, "kill broker": 1}
OTHER_BROKER_FAULTS = {"wipe broker": 2, "delete queues": 1}
"""Where the broker is somebody's, only what is in queues of the chaos' own."""
DATABASE_STOP = "stop database"
DATABASE_STOPS = 3
"""PostgreSQL recovers from each; more of them would leave little time for all else."""
PAUSE_SECONDS = (0.5, 1.7)
"""Between two faults."""
DOWN_SECONDS = (0.0, 1.5)
FREEZE_LEASES = (0.2, 2.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at` seconds from the beginning, `kind` strikes number `target` of its kind,
    for `seconds`: so long it is down or frozen."""

    at: float
    kind: str
    target: int
    seconds: float


def fault_plan(
    seed: int, seconds: float, counts: Mapping[str, int], lease_seconds: float
) -> list[Fault]:
    """The faults of a trial: the same for the same arguments.

    `counts` has the number of beats and workers, and as `own_broker` whether the
    broker may be killed. Each kind comes once before any comes again.
    """
    random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    kinds = _kinds(random, is_own_broker=bool(counts["own_broker"]))
    plan: list[Fault] = []
    at = random.uniform(*PAUSE_SECONDS)
    while at < seconds:
        kind = next(kinds)
        targets = counts.get(f"{kind.rpartition(' ')[2]}s", 1)
        span = (
            (lease_seconds * FREEZE_LEASES[0], lease_seconds * FREEZE_LEASES[1])
            if kind.startswith("freeze")
            else DOWN_SECONDS
        )
        plan.append(Fault(at, kind, random.randrange(targets), random.uniform(*span)))
        at += random.uniform(*PAUSE_SECONDS)
    return plan


def _kinds(random: Random, *, is_own_broker: bool) -> Iterator[str]:
    parts = {
        **BEAT_AND_WORKER_FAULTS,
        **(OWN_BROKER_FAULTS if is_own_broker else OTHER_BROKER_FAULTS),
    }
    each = [*parts, DATABASE_STOP]
    random.shuffle(each)
    yield from each
    stops = 1
    while True:
        kind = random.choices([*parts, DATABASE_STOP], [*parts.values(), 2])[0]
        if kind == DATABASE_STOP:
            stops += 1
        if kind != DATABASE_STOP or stops <= DATABASE_STOPS:
            yield kind
