"""Quick benches, for what they say and what they leave; never for how fast they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.core.management import CommandError, call_command
from kombu import Connection, Exchange, Queue

from scheduler_project.bench.measurements import Measurement
from scheduler_project.bench.rig import Rig

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "redis://127.0.0.1:1/0"
SECONDS = 110


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench that has ended; `folder` was its place for temporary files."""

    code: int
    text: str
    figures: dict[str, Any]
    picture: Path
    folder: Path

    def rows(self, measurement: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.figures["rows"]
        return [row for row in rows if row["measurement"] == measurement]


def run_bench(folder: Path, *words: str) -> Bench:
    figures, picture, temporary = folder / "f.json", folder / "f.svg", folder / "tmp"
    figures.unlink(missing_ok=True)
    temporary.mkdir(exist_ok=True)
    output = ("--json", str(figures), "--svg", str(picture))
    done = subprocess.run(
        [sys.executable, "manage.py", "bench", *words, *output],
        cwd=ROOT,
        # A place of its own for the data: no peers are installed there.
        env={**os.environ, "TMPDIR": str(temporary), "GNOMON_VAR": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    text = done.stdout + done.stderr
    assert figures.exists(), text
    return Bench(
        done.returncode, text, json.loads(figures.read_text()), picture, temporary
    )


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not pytest's: another pytest that starts shuts those to other users, such as the
    one that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="gnomon-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def bench(valkey_url: str, folder: Path) -> Bench:
    words = "--throughput 60 --latency 5 --rounds 1 --broker-url"
    return run_bench(folder, *words.split(), valkey_url)


def test_it_measures_ours_and_the_peers_and_exits_with_0(bench: Bench) -> None:
    assert bench.code == 0, bench.text
    assert all(row["value"] > 0 for row in bench.figures["rows"])
    ours, *beside = bench.rows("throughput")
    assert ours["peer"] is None
    assert [(row["peer"].split(",")[0], row["value"]) for row in beside] == [
        ("Celery task with 3 ORM saves", ours["value"]),
        ("the same", ours["value"]),
        ("bare Celery", ours["value"]),
    ]
    for row, factor in zip(beside, (8, 2.5, 1), strict=True):
        assert row["ratio"] == row["value"] / row["peer_value"]
        assert row["target"] == factor * row["peer_value"]
        assert row["met"] is (row["value"] >= row["target"])
    assert [row["target"] for row in bench.rows("latency")] == [None, 10, None]


def test_a_peer_that_is_not_installed_is_named_with_the_way_to_it(
    bench: Bench,
) -> None:
    assert "django-q2, ORM broker is not installed: bench --peers" in bench.text


def test_it_prints_each_figure_in_one_table(bench: Bench) -> None:
    assert "throughput, Redis lists" in bench.text
    assert all(row["name"] in bench.text for row in bench.figures["rows"])


def test_the_figures_say_where_and_of_what_they_are(bench: Bench) -> None:
    machine = bench.figures["machine"]
    assert machine["cores"] > 0
    assert machine["processor"]
    assert machine["memory_mb"] > 0
    assert machine["postgresql"].split(".")[0].isdecimal()
    assert machine["python"] == sys.version.split()[0]
    assert machine["Redis lists"].startswith("Valkey ")
    assert all(row["at"].endswith("+00:00") for row in bench.figures["rows"])


def test_it_draws_the_figures(bench: Bench) -> None:
    root = ElementTree.fromstring(bench.picture.read_text())
    said = [text for text in root.itertext() if text.strip()]
    assert "throughput, Redis lists (runs/s)" in said
    assert "Trigger to start, P99" in said


def test_it_leaves_no_file_and_no_process(bench: Bench) -> None:
    assert list(bench.folder.iterdir()) == []
    assert [line for line in _processes() if str(bench.folder) in line] == []


def test_a_measurement_that_fails_costs_no_others_figures(
    valkey_url: str, folder: Path
) -> None:
    words = ("--latency", "1", "--broker-url", NOWHERE, "--broker-url", valkey_url)
    bench = run_bench(folder, *words)

    assert bench.code == 1
    assert "no broker at redis://127.0.0.1:1/0" in bench.text
    assert len(bench.rows("latency")) == 3, bench.text


def test_steady_rates_are_measured_from_the_ledger_and_by_the_api(
    valkey_url: str, folder: Path
) -> None:
    bench = run_bench(folder, "--rates", "1", "--broker-url", valkey_url)

    assert bench.code == 0, bench.text
    created = [row for row in bench.rows("rates") if row["unit"] == "runs/s"]
    assert [row["name"] for row in created] == [
        "Created at 167/s",
        "Created at 1,000/s",
        "Created at 1,300/s",
        "Created at 167/s by the API",
    ]
    p99 = [row for row in bench.rows("rates") if row["name"].endswith("P99")]
    assert [row["target"] for row in p99] == [10, 25, 100, 10]


def test_many_workers_are_measured_idle_and_at_work(
    valkey_url: str, folder: Path
) -> None:
    bench = run_bench(folder, "--nodes", "3", "--broker-url", valkey_url)

    assert bench.code == 0, bench.text
    rows = {row["name"]: row for row in bench.rows("nodes")}
    assert rows["At work: created"]["value"] > 0
    assert rows["At work: runs of a node, fewest"]["value"] > 0
    assert rows["Idle: connections to PostgreSQL"]["met"], bench.text
    measured = {name.rpartition("CPU of ")[2] for name in rows if "CPU of" in name}
    assert measured == {"PostgreSQL", "the broker", "beat", "the fleet"}


def test_a_measurement_that_there_is_not_is_told_before_anything_starts() -> None:
    with pytest.raises(CommandError, match="there is no measurement speed"):
        call_command("bench", "speed")


def test_a_measurement_whose_module_is_missing_is_not_there() -> None:
    assert Measurement("latency", "").is_there
    assert not Measurement("astrology", "").is_there


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
