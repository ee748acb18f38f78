"""One quick bench, for what it says and what it leaves; never for how fast it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"name", "value", "unit", "target", "peer", "peer_value", "ratio", "met"}
SECONDS = 110


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench that has ended; `folder` was its place for temporary files."""

    code: int
    text: str
    rows: list[dict[str, Any]]
    folder: Path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    path = tmp_path_factory.mktemp("figures") / "figures.json"
    counts = {"--runs": 60, "--latency-runs": 5, "--rounds": 1}
    done = subprocess.run(
        [
            *(sys.executable, "manage.py", "bench", "--json", str(path)),
            *(str(word) for pair in counts.items() for word in pair),
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return Bench(done.returncode, done.stdout + done.stderr, rows, folder)


def test_it_measures_both_ways_and_exits_with_0(bench: Bench) -> None:
    assert bench.code == 0, bench.text
    assert all(row.keys() == KEYS for row in bench.rows)
    assert all(row["value"] > 0 for row in bench.rows)
    (rate,) = [row for row in bench.rows if row["unit"] == "runs/s"]
    assert "Celery" in rate["peer"]
    assert rate["peer_value"] > 0
    assert rate["ratio"] == rate["value"] / rate["peer_value"]
    delays = [row for row in bench.rows if row["unit"] == "ms"]
    assert [row["target"] for row in delays] == [None, 100, None]


def test_it_prints_each_figure_and_how_runs_were_triggered(bench: Bench) -> None:
    assert "Shell runs, Valkey" in bench.text
    assert "P99" in bench.text
    assert "triggered by the API" in bench.text


def test_it_leaves_no_file_and_no_process(bench: Bench) -> None:
    assert list(bench.folder.iterdir()) == []
    assert [line for line in _processes() if str(bench.folder) in line] == []


def _processes() -> Iterator[str]:
    """The command line and the environment of each process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield "\0".join(
                (folder / name).read_text(errors="replace")
                for name in ("cmdline", "environ")
            )
        except OSError:  # it has just ended, or is another user's
            continue


def test_a_queue_is_gone_after_its_measurement(broker_url: str) -> None:
    rig = Rig("a broker", broker_url, "", {}, lambda _name, _line: None)
    with Connection(broker_url) as broker, rig.queue() as name:
        queue = Queue(name, Exchange(name), name)(broker.default_channel)
        queue.declare()
        broker.Producer().publish("left over", exchange=name, routing_key=name)
    with (
        Connection(broker_url) as broker,
        pytest.raises(broker.channel_errors, match=r"NOT_FOUND|no queue"),
    ):
        Queue(name)(broker.default_channel).queue_declare(passive=True)


@pytest.mark.parametrize(
    ("value", "is_delay", "met"),
    [(300.0, False, True), (299.9, False, False), (99.9, True, True)],
)
def test_a_rate_is_to_reach_its_target_and_a_delay_to_stay_within(
    *, value: float, is_delay: bool, met: bool
) -> None:
    target = 100.0 if is_delay else 300.0
    row = Row("figure", value, "unit", target, is_delay=is_delay)
    assert row.met is met
    assert row.ratio is None
