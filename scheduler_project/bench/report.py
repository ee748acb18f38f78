"""The figures: as a table for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

SIGNIFICANT_BELOW = 100
"""Values from here on are shown without a fraction."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, with what it should be and what a peer has done.

    `target`: at least, for a rate; at most, for a delay, a size, a count of faults
    (`is_delay`).
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    peer: str | None = None
    peer_value: float | None = None
    is_delay: bool = False

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer_value if self.peer_value else None

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        if self.is_delay:
            return self.value <= self.target
        return self.value >= self.target

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}

    def cells(self) -> Iterator[str]:
        yield self.name
        yield number(self.value)
        yield self.unit
        yield self.target_text
        yield {True: "yes", False: "no", None: ""}[self.met]
        yield self.peer or ""
        yield "" if self.peer_value is None else number(self.peer_value)
        yield "" if self.ratio is None else f"{self.ratio:.1f} x"

    @property
    def target_text(self) -> str:
        if self.target is None:
            return ""
        return f"{'≤' if self.is_delay else '≥'} {number(self.target)}"


@dataclass(slots=True)
class Figures:
    """The rows of one measurement, with the broker it was made with.

    `at`: when, in ISO 8601; `commit`: of which version.
    """

    measurement: str
    broker: str
    at: str
    commit: str
    rows: list[Row] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.measurement}, {self.broker}" if self.broker else self.measurement


COLUMNS = ("Figure", "Value", "Unit", "Target", "Met", "Peer", "Peer value", "Ratio")
RIGHT = {"Value", "Target", "Peer value", "Ratio"}


def table(figures: Sequence[Figures]) -> Table:
    shown = Table()
    for name in COLUMNS:
        shown.add_column(
            name,
            justify="right" if name in RIGHT else "left",
            no_wrap=name in {"Target", "Ratio"},
        )
    for each in figures:
        shown.add_section()
        shown.add_row(each.title, style="bold")
        for row in each.rows:
            shown.add_row(*row.cells())
    return shown


def as_json(machine: Mapping[str, object], figures: Sequence[Figures]) -> str:
    """One object: the machine, and all rows in one list."""
    rows = [
        {
            "measurement": each.measurement,
            "broker": each.broker,
            "at": each.at,
            "commit": each.commit,
            **row.as_json(),
        }
        for each in figures
        for row in each.rows
    ]
    return json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n"


def from_json(text: str) -> list[Figures]:
    """The figures of an `as_json`."""
    found: dict[tuple[str, str], Figures] = {}
    for values in json.loads(text)["rows"]:
        measurement, broker = values["measurement"], values["broker"]
        new = Figures(measurement, broker, values["at"], values["commit"])
        found.setdefault((measurement, broker), new).rows.append(_row(values))
    return list(found.values())


def _row(values: Mapping[str, Any]) -> Row:
    return Row(**{name: values[name] for name in Row.__dataclass_fields__})


def number(value: float) -> str:
    """As people read it: no fraction from SIGNIFICANT_BELOW on."""
    if value >= SIGNIFICANT_BELOW or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
