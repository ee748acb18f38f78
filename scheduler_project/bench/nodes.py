"""Many workers on one ledger and one broker: what they cost idle, and at work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from statistics import median

from django.conf import settings
from django.db.models import Count

from scheduler_project.bench.latency import percentile
from scheduler_project.bench.meters import Meters, Span, connections
from scheduler_project.bench.rates import KEPT_UP
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.workload import (
    created_a_second,
    delays_ms,
    runs_delete,
    version_create,
    wait_for_end,
)
from scheduler_project.local.supervisor import Supervisor
from tasks_app.models import TaskRun
from workers_app.models import WorkerInfo

IDLE_SECONDS = 30
WORK_SECONDS = 20
RATE = 200
"""Runs a second while they work, for all nodes together."""
LOOK_SECONDS = 0.5

# The bounds of docs/scaling.md.
IDLE_STATEMENTS = 1.5
"""A second and node: a look for runs, a heartbeat each 5 s, and some of beat's."""
STATEMENTS_A_RUN = 8.0
CONNECTIONS_A_NODE, OTHER_CONNECTIONS = 2, 5
LATE_MS = {50: None, 99: 500.0, 100: 2_000.0}
CLAIMS_A_RUN = 1.5
IDLE_CPU = {"PostgreSQL": 10.0, "the broker": 10.0, "beat": 5.0, "the fleet": None}
"""Percent of one core."""
P99_MS = 100.0


def nodes(rig: Rig, *, nodes: int) -> Iterator[Row]:
    """Start `nodes` workers; measure them idle, and then at RATE runs a second."""
    runs_delete()
    meters = Meters(rig.broker_url)
    meters.begin()
    try:
        with rig.queue() as queue, rig.services() as services:
            version = version_create(queue)
            began = time.monotonic()
            rig.start_beat(services)
            rig.start_fleet(services, queue, nodes)
            took = time.monotonic() - began
            rig.plan.tell(f"{nodes} workers are online after {took:.0f} s.")
            services.wait(2 * settings.HEARTBEAT_SECONDS)  # the start is over by then
            before = meters.read()
            late_ms = _rest(services, queue)
            idle = Span(before, meters.read())
            yield from _idle(idle, late_ms, nodes)
            before = meters.read()
            rig.produce(services, version.pk, RATE, WORK_SECONDS)
            wait_for_end(services, RATE * WORK_SECONDS)
            yield from _at_work(Span(before, meters.read()), idle, nodes)
    finally:
        meters.end()


def _rest(services: Supervisor, queue: str) -> list[float]:
    """Leave the fleet to itself; returns how late its heartbeats were, in ms: the time
    between two of a worker, above HEARTBEAT_SECONDS."""
    workers = WorkerInfo.objects.filter(name__startswith=queue)
    last: dict[int, datetime] = {}
    late_ms = []
    until = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < until:
        for pk, at in workers.values_list("pk", "last_heartbeat"):
            before = last.get(pk, at)
            if at != before:
                gap = (at - before).total_seconds() - settings.HEARTBEAT_SECONDS
                late_ms.append(max(0.0, gap * 1000))
            last[pk] = at
        services.wait(LOOK_SECONDS)
    return late_ms


def _idle(span: Span, late_ms: list[float], nodes: int) -> Iterator[Row]:
    a_node = span.rate("statements") / nodes
    yield _bound("Idle: statements", a_node, "/s and node", IDLE_STATEMENTS)
    yield Row("Idle: transactions", span.rate("transactions"), "/s")
    most = CONNECTIONS_A_NODE * nodes + OTHER_CONNECTIONS
    yield _bound("Idle: connections to PostgreSQL", connections(), "", most)
    for name, seconds in span.cpu_seconds():
        part = 100 * seconds / span.seconds
        yield _bound(f"Idle: CPU of {name}", part, "% of a core", IDLE_CPU[name])
    if span.after.commands is not None:
        yield Row("Idle: commands to the broker", span.rate("commands"), "/s")
    for percent, target in LATE_MS.items():
        label = "max" if percent == 100 else f"P{percent}"
        late = percentile(late_ms, percent)
        yield _bound(f"Idle: heartbeats late, {label}", late, "ms", target)


def _at_work(span: Span, idle: Span, nodes: int) -> Iterator[Row]:
    """`idle`: what the same fleet does without runs, which is not theirs."""
    runs = TaskRun.objects.count()
    yield Row("At work: created", created_a_second(), "runs/s", KEPT_UP * RATE)
    yield Row("At work: statements", span.rate("statements"), "/s")
    own = span.count("statements") - idle.rate("statements") * span.seconds
    yield _bound("At work: statements of a run", own / runs, "", STATEMENTS_A_RUN)
    yield _bound(
        "At work: claims of a run", span.count("claims") / runs, "", CLAIMS_A_RUN
    )
    yield Row("At work: WAL of a run", span.count("wal_bytes") / runs / 1000, "kB")
    for name, seconds in span.cpu_seconds():
        yield Row(f"At work: CPU of {name}", 1000 * seconds / runs, "ms a run")
    if span.after.commands is not None:
        yield Row("At work: commands to the broker", span.rate("commands"), "/s")
    late = percentile(delays_ms(RATE), 99)
    yield _bound("At work: queued to started, P99", late, "ms", P99_MS)
    yield from _shares(nodes)


def _bound(name: str, value: float, unit: str, most: float | None) -> Row:
    return Row(name, value, unit, most, is_delay=True)


def _shares(nodes: int) -> Iterator[Row]:
    """How the runs were spread over the workers."""
    counts = TaskRun.objects.order_by().values("worker_id").annotate(runs=Count("pk"))
    shares = [row["runs"] for row in counts]
    shares += [0] * (nodes - len(shares))
    for name, choose in (("fewest", min), ("median", median), ("most", max)):
        yield Row(f"At work: runs of a node, {name}", choose(shares), "")
