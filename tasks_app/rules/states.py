"""The states of a run and every allowed move, as one table."""

from __future__ import annotations

ALLOWED: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled", "expired"}),
    "running": frozenset(
        # queued: the next attempt
        {"succeeded", "failed", "timed_out", "cancelled", "lost", "queued"}
    ),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "timed_out": frozenset(),
    "cancelled": frozenset(),
    "lost": frozenset(),
    "skipped": frozenset(),
    "expired": frozenset(),
}

# A run that planning skips is born so: no move leads to skipped.
INITIAL = ("queued", "skipped")

TERMINAL = frozenset(state for state, moves in ALLOWED.items() if not moves)

FAILURES = ("failed", "timed_out", "lost", "expired")
"""The ends that someone should look at."""

LABELS = {
    ("queued", "running"): "claim",
    ("running", "queued"): "retry",
}


def render_mermaid() -> str:
    """The table as a Mermaid state diagram, in a stable order, for the docs."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in INITIAL]
    for old, moves in ALLOWED.items():
        for new in sorted(moves, key=list(ALLOWED).index):
            label = LABELS.get((old, new))
            lines.append(f"    {old} --> {new}" + (f": {label}" if label else ""))
    lines += [f"    {state} --> [*]" for state in ALLOWED if state in TERMINAL]
    return "\n".join(lines) + "\n"
