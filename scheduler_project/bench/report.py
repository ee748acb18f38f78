"""The figures: as a table for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from scheduler_project.bench import stock
from scheduler_project.bench.latency import Delays
from scheduler_project.bench.throughput import Rates

TARGET_RATIO = 3
"""Times the stock way."""
TARGET_P99_MS = 100


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, with what it should be and what a peer has done.

    `target`: at least, for a rate; at most, for a delay (`is_delay`).
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
        values = asdict(self)
        del values["is_delay"]
        return {**values, "ratio": self.ratio, "met": self.met}

    def cells(self) -> Iterator[str]:
        yield self.name
        yield _number(self.value)
        yield self.unit
        yield "" if self.target is None else f"{self._sign} {_number(self.target)}"
        yield {True: "yes", False: "no", None: ""}[self.met]
        yield self.peer or ""
        yield "" if self.peer_value is None else _number(self.peer_value)
        yield "" if self.ratio is None else f"{self.ratio:.1f} x"

    @property
    def _sign(self) -> str:
        return "≤" if self.is_delay else "≥"


def throughput_row(broker: str, rates: Rates) -> Row:
    return Row(
        name=f"Shell runs, {broker}",
        value=rates.ours,
        unit="runs/s",
        target=TARGET_RATIO * rates.stock,
        peer=stock.NAME,
        peer_value=rates.stock,
    )


def latency_rows(broker: str, delays: Delays) -> Iterator[Row]:
    targets = {50: None, 99: TARGET_P99_MS, 100: None}
    for percent, target in targets.items():
        label = "max" if percent == 100 else f"P{percent}"
        yield Row(
            name=f"Trigger to start, {label}, {broker}",
            value=delays.percentile(percent),
            unit="ms",
            target=target,
            is_delay=True,
        )


def table(rows: Sequence[Row]) -> Table:
    shown = Table("Figure")
    shown.add_column("Value", justify="right")
    shown.add_column("Unit")
    shown.add_column("Target", justify="right", no_wrap=True)
    shown.add_column("Met")
    shown.add_column("Peer")
    shown.add_column("Peer value", justify="right")
    shown.add_column("Ratio", justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(*row.cells())
    return shown


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps({"rows": [row.as_json() for row in rows]}, indent=2) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
