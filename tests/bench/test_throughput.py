"""What the comparison makes of its sides, whatever their rates are."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler_project.bench import throughput as measured
from scheduler_project.bench.peers import Peer, Way
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Plan, Rig
from scheduler_project.bench.workload import BenchError

BROKEN = Way("as it is", "bench_peers.no_such_way", ("-m", "bench_peers.no_such_way"))


@pytest.fixture
def rig(valkey_url: str, tmp_path: Path) -> Rig:
    environment = {
        "GNOMON_VAR": str(tmp_path),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    return Rig("RabbitMQ", valkey_url, "", environment, lambda _name, _line: None)


def test_a_peer_that_fails_is_told_and_costs_no_others_figures(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "_ours", lambda _rig, _runs: 100.0)
    monkeypatch.setattr(measured, "PEERS", (Peer("A peer", 2, (BROKEN,)),))
    rows: list[Row] = []

    with pytest.raises(BenchError, match=r"A peer, as it is: .* has failed$"):
        rows.extend(measured.throughput(rig, runs=1))

    assert [(row.value, row.target) for row in rows] == [(100, 1_600)]


def test_the_best_way_of_a_peer_counts_and_the_median_of_the_rounds(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([300.0, 10.0, 40.0, 60.0, 20.0, 100.0])
    monkeypatch.setattr(measured, "_ours", lambda _rig, _runs: next(rates))
    monkeypatch.setattr(Way, "rate", lambda _self, _rig, _runs: next(rates))
    ways = (Way("slow", "", ()), Way("fast", "", ()))
    monkeypatch.setattr(measured, "PEERS", (Peer("A peer", 2, ways),))
    rig.plan = Plan(rounds=2)

    ours, beside = measured.throughput(rig, runs=1)

    # Ours, slow, fast; and then fast, slow, ours.
    assert ours.value == 200.0
    assert (beside.peer, beside.peer_value) == ("A peer, fast", 50.0)
    assert (beside.target, beside.ratio) == (100.0, 4.0)
