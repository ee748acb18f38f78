"""The figures in the documents: benchmarks.json, images/bench.svg, and a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scheduler_project.bench.chart import svg
from scheduler_project.bench.measurements import MEASUREMENTS
from scheduler_project.bench.report import COLUMNS, RIGHT, Figures, as_json, from_json

JSON, SVG, PAGE = "benchmarks.json", "images/bench.svg", "benchmarks.md"
BLOCK = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- /figures -->)", re.DOTALL)
SAME = ("processor", "cores", "memory_mb")
"""Figures of machines that differ in these do not stand in one table."""


def publish(
    directory: Path, machine: Mapping[str, object], figures: Sequence[Figures]
) -> None:
    """Put new figures in the place of older ones of the same measurement and broker.

    Those of another machine go. `directory` holds the page, with its two marks.
    """
    path = directory / JSON
    if path.exists():
        before = json.loads(path.read_text())["machine"]
        if all(before.get(name) == machine[name] for name in SAME):
            figures = merged(from_json(path.read_text()), figures)
            machine = {**before, **machine}
    path.write_text(as_json(machine, figures))
    render(directory)


def render(directory: Path) -> None:
    """Write the picture and the page's table anew, from the JSON."""
    text = (directory / JSON).read_text()
    figures = from_json(text)
    (directory / SVG).write_text(svg(figures))
    page = directory / PAGE
    block = as_markdown(json.loads(text)["machine"], figures)
    page.write_text(BLOCK.sub(lambda _: block, page.read_text()))


def merged(before: Sequence[Figures], new: Sequence[Figures]) -> list[Figures]:
    """Both, the new ones in place of the same before, in the order of the table."""
    found = {(each.measurement, each.broker): each for each in (*before, *new)}
    order = [each.name for each in MEASUREMENTS]
    return sorted(
        found.values(), key=lambda each: (order.index(each.measurement), each.broker)
    )


def as_markdown(machine: Mapping[str, object], figures: Sequence[Figures]) -> str:
    """The machine in a sentence, and a table for each measurement."""
    return "\n".join([_sentence(machine), "", *_tables(figures)])


def _sentence(machine: Mapping[str, object]) -> str:
    servers = ", ".join(
        dict.fromkeys(str(machine[name]) for name in machine if name[0].isupper())
    )
    return (
        f"{machine['cores']} cores of {machine['processor']},"
        f" {machine['memory_mb']} MB; Python {machine['python']}, PostgreSQL"
        f" {machine['postgresql']}, {servers}; Celery {machine['celery']}, kombu"
        f" {machine['kombu']}, Django {machine['django']}. Load average before the"
        f" last of them: {machine['load']}."
    )


def _tables(figures: Sequence[Figures]) -> Iterator[str]:
    for each in figures:
        day = each.at.partition("T")[0]
        yield f"**{each.title}** ({day}, {each.commit or 'no commit'})\n"
        yield f"| {' | '.join(COLUMNS)} |"
        yield f"|{'|'.join('--:' if name in RIGHT else '---' for name in COLUMNS)}|"
        for row in each.rows:
            yield f"| {' | '.join(row.cells())} |"
        yield ""
