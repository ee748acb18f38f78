"""The figures as an SVG picture: bars, with a mark where the target is.

Drawn by hand like the small charts of the admin site: the libraries for it load scripts
from elsewhere, and know no targets. It follows the reader's light or dark setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from scheduler_project.bench.report import Figures, Row, number

WIDTH, LINE, BAR = 860, 22, 14
LABELS, NUMBERS = 330, 150
"""Widths of what stands left and right of the bars."""
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1e293b }
.title { font-weight: 600 } .note { fill: #64748b; font-size: 11px }
.ours { fill: #2563eb } .peer { fill: #94a3b8 }
.target { stroke: #dc2626; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e2e8f0 } .note { fill: #94a3b8 } .ours { fill: #60a5fa }
  .peer { fill: #64748b } .target { stroke: #f87171 }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a panel. `target` is where its mark stands, `note` says it."""

    label: str
    value: float
    is_ours: bool = True
    target: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one unit, to one scale."""

    title: str
    unit: str
    bars: Sequence[Bar]

    @property
    def largest(self) -> float:
        return max(max(bar.value, bar.target or 0) for bar in self.bars) or 1.0


def svg(figures: Sequence[Figures]) -> str:
    """A panel for each throughput, with its peers, and for each set of P99 delays."""
    panels = list(_panels(figures))
    height = sum(LINE * (len(panel.bars) + 2) for panel in panels)
    root = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        width=str(WIDTH),
        role="img",
    )
    SubElement(root, "title").text = "Figures of the bench"
    SubElement(root, "style").text = STYLE
    top = 0
    for panel in panels:
        top = _draw(root, panel, top)
    return tostring(root, encoding="unicode") + "\n"


def _panels(figures: Sequence[Figures]) -> Iterator[Panel]:
    for each in figures:
        peers = [row for row in each.rows if row.peer_value is not None]
        if peers:
            ours = _bar("Gnomon", each.rows[0])
            bars = [Bar(r.peer or "", r.peer_value or 0, is_ours=False) for r in peers]
            yield Panel(each.title, peers[0].unit, [ours, *bars])
        delays = [row for row in each.rows if row.name.endswith(", P99")]
        if delays:
            bars = [_bar(row.name, row) for row in delays]
            yield Panel(each.title, delays[0].unit, bars)


def _bar(label: str, row: Row) -> Bar:
    return Bar(label, row.value, target=row.target, note=row.target_text)


def _draw(root: Element, panel: Panel, top: int) -> int:
    """Draw a panel from `top` on; returns where the next one begins."""
    middle = top + LINE * 0.7
    _text(root, 0, middle, f"{panel.title} ({panel.unit})", "title")
    for bar in panel.bars:
        top += LINE
        _draw_bar(root, bar, top, (WIDTH - LABELS - NUMBERS) / panel.largest)
    return top + 2 * LINE


def _draw_bar(root: Element, bar: Bar, top: int, scale: float) -> None:
    middle = top + LINE * 0.7
    _text(root, 0, middle, bar.label, "label")
    SubElement(
        root,
        "rect",
        {"class": "ours" if bar.is_ours else "peer", "rx": "2"},
        x=str(LABELS),
        y=str(top + (LINE - BAR) // 2),
        width=f"{max(bar.value * scale, 1):.1f}",
        height=str(BAR),
    )
    said = _text(root, WIDTH - NUMBERS + 8, middle, number(bar.value), "label")
    if bar.target is None:
        return
    SubElement(said, "tspan", {"class": "note"}, dx="6").text = bar.note
    x = f"{LABELS + bar.target * scale:.1f}"
    ends = {"y1": str(top + 1), "y2": str(top + LINE - 1)}
    SubElement(root, "line", {"class": "target"}, x1=x, x2=x, **ends)


def _text(root: Element, x: float, y: float, text: str, kind: str) -> Element:
    drawn = SubElement(root, "text", {"class": kind}, x=f"{x:g}", y=f"{y:g}")
    drawn.text = text
    return drawn
