"""What becomes of figures: tables, JSON, the picture, the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scheduler_project.bench import publish
from scheduler_project.bench.chart import svg
from scheduler_project.bench.latency import percentile
from scheduler_project.bench.report import Figures, Row, as_json, from_json, number

DOCS = Path(__file__).resolve().parents[2] / "docs"
MACHINE: dict[str, Any] = {
    "processor": "Any",
    "cores": 2,
    "load": 0.1,
    "memory_mb": 100,
    "python": "3",
    "django": "5",
    "postgresql": "18",
    "celery": "5",
    "kombu": "5",
    "RabbitMQ": "RabbitMQ 3",
}
RATE = Row("Shell runs", 300.0, "runs/s", 250.0, "Celery & <sh>", 100.0)
DELAY = Row("Queued to started, P99", 12.5, "ms", 10.0, is_delay=True)


def figures(measurement: str, *rows: Row, commit: str = "abc") -> Figures:
    return Figures(
        measurement, "RabbitMQ", "2026-01-02T03:04:05+00:00", commit, [*rows]
    )


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


def test_a_ratio_is_the_value_by_the_peers() -> None:
    assert RATE.ratio == 3.0
    assert list(RATE.cells())[-1] == "3.0 x"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234.5, "1,234"),
        (100.4, "100"),
        (12.34, "12.3"),
        (10.0, "10"),
        (0.0123, "0.012"),
    ],
)
def test_a_number_is_as_exact_as_it_is_of_use(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, part) for part in (1, 50, 99, 100)] == [1, 3, 5, 5]


def test_json_holds_all_of_the_figures() -> None:
    before = [figures("throughput", RATE), figures("rates", DELAY)]
    assert from_json(as_json(MACHINE, before)) == before


def test_the_picture_has_a_bar_for_each_side_and_a_mark_at_each_target() -> None:
    text = svg([figures("throughput", RATE), figures("rates", DELAY)])

    root = ElementTree.fromstring(text)
    kinds = [element.get("class") for element in root]
    assert kinds.count("ours") == 2
    assert kinds.count("peer") == 1
    assert kinds.count("target") == 2
    assert "Celery & <sh>" in list(root.itertext())


def test_the_picture_of_nothing_is_well_formed() -> None:
    assert ElementTree.fromstring(svg([])).tag.endswith("svg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    page = "Before.\n<!-- figures -->\n<!-- /figures -->\nAfter.\n"
    (tmp_path / publish.PAGE).write_text(page)
    return tmp_path


def test_new_figures_take_the_place_of_the_same_ones(folder: Path) -> None:
    publish.publish(folder, MACHINE, [figures("rates", DELAY)])
    publish.publish(folder, MACHINE, [figures("throughput", RATE)])
    publish.publish(folder, MACHINE, [figures("rates", DELAY, commit="new")])

    found = from_json((folder / publish.JSON).read_text())
    assert [(each.measurement, each.commit) for each in found] == [
        ("throughput", "abc"),
        ("rates", "new"),
    ]
    page = (folder / publish.PAGE).read_text()
    assert page.startswith("Before.\n")
    assert page.endswith("After.\n")
    assert page.count("Queued to started, P99") == 1


def test_figures_of_another_machine_are_not_mixed_in(folder: Path) -> None:
    publish.publish(folder, {**MACHINE, "cores": 64}, [figures("rates", DELAY)])
    publish.publish(folder, MACHINE, [figures("throughput", RATE)])

    (found,) = from_json((folder / publish.JSON).read_text())
    assert found.measurement == "throughput"


def test_the_page_and_the_picture_show_what_the_json_holds() -> None:
    text = (DOCS / publish.JSON).read_text()
    block = publish.as_markdown(json.loads(text)["machine"], from_json(text))
    assert block in (DOCS / publish.PAGE).read_text(), (
        "in manage.py shell, scheduler_project.bench.publish.render writes them anew"
    )
    assert (DOCS / publish.SVG).read_text() == svg(from_json(text))
