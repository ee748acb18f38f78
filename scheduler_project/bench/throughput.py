"""Shell runs per second, by the product and by its peers, in the same run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median

from scheduler_project.bench.peers import PEERS, Peer
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import (
    SLOTS,
    BenchError,
    backlog_create,
    rate,
    runs_delete,
    version_create,
    wait_for_end,
)
from scheduler_project.local.errors import PlatformError

TARGET_RATE = 1_600.0
UNTARGETED = {"Redis lists"}
"""Brokers that the target does not speak of."""
OURS = "Gnomon"
PEER_PART = 10
PEER_RUNS = 600
"""A peer gets this part of the backlog, or so many runs: its rate is what counts."""


def throughput(rig: Rig, *, runs: int) -> Iterator[Row]:
    """Drain a backlog of `runs` runs of `sh -c true`, and the peers a part of it.

    The sides take turns, in one order and then in the other, so that a busy machine is
    busy for all of them; medians count.

    Raises:
        BenchError: a side has failed; the others' rows have been yielded before.
    """
    peers = [peer for peer in PEERS if peer.is_there]
    for peer in (peer for peer in PEERS if peer not in peers):
        rig.plan.tell(f"{peer.name} is not installed: bench --peers installs it.")
    sides = _Sides(rig)
    sides.measure(runs, peers)
    ours = sides.rate(OURS)
    if ours is not None:
        target = None if rig.broker in UNTARGETED else TARGET_RATE
        yield Row("Shell runs", ours, "runs/s", target)
        for peer in peers:
            yield from _beside(peer, ours, sides)
    if sides.failures:
        raise BenchError("; ".join(sides.failures))


def _beside(peer: Peer, ours: float, sides: _Sides) -> Iterator[Row]:
    """Our rate beside the best of the peer's ways that were measured."""
    rates = {title: sides.rate(title) for title in map(peer.title, peer.ways)}
    measured = {title: rate for title, rate in rates.items() if rate is not None}
    if measured:
        best = max(measured, key=lambda title: measured[title])
        yield Row(
            name="Shell runs, beside a peer",
            value=ours,
            unit="runs/s",
            target=peer.ratio * measured[best],
            peer=best,
            peer_value=measured[best],
        )


class _Sides:
    """The rates of each side, by its name, and what went wrong."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._rates: dict[str, list[float]] = defaultdict(list)
        self.failures: list[str] = []

    def measure(self, runs: int, peers: Sequence[Peer]) -> None:
        part = max(runs // PEER_PART, min(runs, PEER_RUNS))
        sides: list[tuple[str, Callable[[], float]]] = [
            (OURS, partial(_ours, self._rig, runs)),
            *(
                (peer.title(way), partial(way.rate, self._rig, part))
                for peer in peers
                for way in peer.ways
            ),
        ]
        for number in range(self._rig.plan.rounds):
            for name, measure in reversed(sides) if number % 2 else sides:
                self._measure_one(f"Round {number + 1}: {name}", name, measure)

    def _measure_one(self, title: str, name: str, measure: Callable[[], float]) -> None:
        try:
            rate = measure()
        except PlatformError as error:
            self.failures.append(f"{name}: {error}")
            return
        self._rates[name].append(rate)
        self._rig.plan.tell(f"{title} {rate:.0f} runs/s.")

    def rate(self, name: str) -> float | None:
        """The median of its rounds."""
        return median(self._rates[name]) if self._rates[name] else None


def _ours(rig: Rig, runs: int) -> float:
    """The backlog is there before the workers: they find it by themselves, and claim
    until nothing waits."""
    runs_delete()
    with rig.queue() as queue, rig.services() as services:
        backlog_create(version_create(queue), queue, runs)
        rig.start_workers(
            services, queue, rig.plan.workers, WORKER_CONCURRENCY=str(SLOTS)
        )
        rig.start_beat(services)
        wait_for_end(services, runs)
    return rate(runs)
