from __future__ import annotations

from itertools import product

import pytest

from tasks_app.rules.states import (
    ALLOWED,
    INITIAL,
    TERMINAL,
    render_mermaid,
)

MOVES = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "expired"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "timed_out"),
    ("running", "cancelled"),
    ("running", "lost"),
    ("running", "queued"),
}


@pytest.mark.parametrize(("old", "new"), list(product(ALLOWED, ALLOWED)))
def test_exactly_these_moves_are_allowed(old: str, new: str) -> None:
    assert (new in ALLOWED[old]) is ((old, new) in MOVES)


def test_a_terminal_state_never_changes() -> None:
    assert {
        "succeeded",
        "failed",
        "timed_out",
        "cancelled",
        "lost",
        "skipped",
        "expired",
    } == TERMINAL
    assert not any(ALLOWED[state] for state in TERMINAL)


def test_every_move_leads_to_a_state_in_the_table_and_every_state_is_reached() -> None:
    reached = frozenset().union(*ALLOWED.values())

    assert reached <= set(ALLOWED)
    assert reached | set(INITIAL) == set(ALLOWED)


def test_the_diagram_shows_every_move_once() -> None:
    lines = render_mermaid().splitlines()

    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == len(set(lines)) == 1 + 2 + len(MOVES) + len(TERMINAL)
    assert "    [*] --> queued" in lines
    assert "    queued --> running: claim" in lines
    assert "    running --> queued: retry" in lines
    assert "    lost --> [*]" in lines
    shown = {
        tuple(line.split(":")[0].split(" --> ")) for line in map(str.strip, lines[1:])
    }
    assert {move for move in shown if "[*]" not in move} == MOVES
