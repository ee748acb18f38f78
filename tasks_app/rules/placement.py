"""Which workers may take a run, and which of them it should better go to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks_app.rules.match import WORKER_PREFIX, MatchInvalid, parse_match

Placement = Literal["any", "least_loaded", "same_worker", "worker", "broadcast"]


@dataclass(frozen=True)
class WorkerView:
    """A worker as it last reported; `queues` and `tags` are names. `running` counts the
    runs that it holds, `wanted` those that wait a moment for it."""

    id: int
    name: str
    queues: frozenset[str]
    tags: frozenset[str]
    running: int
    max_tasks: int
    is_draining: bool
    is_online: bool
    wanted: int = 0

    @property
    def load(self) -> int:
        return self.running + self.wanted

    @property
    def is_full(self) -> bool:
        return self.load >= self.max_tasks

    @property
    def free_slots(self) -> int:
        """How many more runs it may hold."""
        return max(0, self.max_tasks - self.running)


def worker_lane(name: str) -> str:
    """The lane of the runs that only the worker of that name takes."""
    return WORKER_PREFIX + name


def can_take(worker: WorkerView, queue: str, lane: str) -> str:
    """Why this worker will not take a run of the queue and lane; "" if it will.

    Of several reasons, the one that will pass last. A full worker will take the run:
    later.
    """
    refusal = lane_refusal(worker.name, worker.tags, lane)
    if refusal and lane.startswith(WORKER_PREFIX):
        return refusal
    if not worker.is_online:
        return "it is offline"
    if worker.is_draining:
        return "it is draining"
    if queue not in worker.queues:
        return f"it does not serve queue {queue}"
    return refusal


def lane_refusal(name: str, tags: Collection[str], lane: str) -> str:
    """Why a worker of this name, with these tags, takes nothing of a lane, or "".

    A lane is "" for any worker, `worker:NAME` for that one only, and a match of tags
    otherwise; one that cannot be read is nobody's.
    """
    if lane.startswith(WORKER_PREFIX):
        wanted = lane.removeprefix(WORKER_PREFIX)
        return "" if name == wanted else f"the run is for worker {wanted} only"
    if not lane:
        return ""
    try:
        missing = parse_match(lane).missing(tags)
    except MatchInvalid as error:
        return f"the run's match cannot be read: {error}"
    return f"its tags do not fit: the run {missing}" if missing else ""


def least_loaded(workers: Iterable[WorkerView]) -> WorkerView | None:
    """The worker with the smallest part of its slots taken, by name among equals.

    None if every one is full: then the first to have a free slot should get the run.
    """
    free = [worker for worker in workers if not worker.is_full]
    return (
        min(free, key=lambda worker: (worker.load / worker.max_tasks, worker.name))
        if free
        else None
    )


def wish(
    placement: Placement, workers: Sequence[WorkerView], last_worker_id: int | None
) -> WorkerView | None:
    """The worker that a run should wait for a moment, of those that can take it.

    `same_worker` wishes for the one that ran the task last, even if it is full, and for
    none if it is not among `workers`. `any` has no wish; nor have `worker` and
    `broadcast`, whose lane names the worker already.
    """
    match placement:
        case "least_loaded":
            return least_loaded(workers)
        case "same_worker":
            return next((each for each in workers if each.id == last_worker_id), None)
        case _:
            return None
