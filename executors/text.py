"""Text that a database, a log and a person can take.

PostgreSQL stores neither U+0000 nor a lone surrogate, and JSON has no infinity: each
of them turns a finished run into one that cannot be recorded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64


def one_line(text: str, *, max_characters: int = 500) -> str:
    """`text` as one printable line, cut with an ellipsis."""
    # A job may print megabytes without a line end: cut before the slow part.
    head = text[: 4 * max_characters]
    printable = "".join(c if c.isprintable() else " " for c in head)
    line = " ".join(printable.split())
    if len(line) <= max_characters:
        return line
    return line[: max_characters - 1] + "…"


def storable(text: str) -> str:
    """`text` with what PostgreSQL refuses replaced by U+FFFD."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def unstorable_parts(value: Any) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield (path, code, message) of each part of a JSON value that cannot be kept.

    Walks with a stack of its own: 100,000 nested brackets must not end in a
    RecursionError.
    """
    stack: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while stack:
        path, part = stack.pop()
        if len(path) > MAX_DEPTH:
            yield path[:8], "too_deep", f"must not nest deeper than {MAX_DEPTH} levels"
            return
        fault = _fault(part)
        if fault:
            yield path, *fault
        stack.extend(_children(path, part))


def _children(
    path: tuple[str, ...], part: Any
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(part, dict):
        for key, child in part.items():
            yield (*path, storable(str(key))), child
    elif isinstance(part, list | tuple):
        for index, child in enumerate(part):
            yield (*path, str(index)), child


def _fault(part: Any) -> tuple[str, str] | None:
    if isinstance(part, dict):
        return next((f for f in map(_fault, part) if f), None)
    if isinstance(part, float) and not math.isfinite(part):
        return "not_finite", "must be a finite number"
    if not isinstance(part, str):
        return None
    if "\x00" in part:
        return "null_character", "must not contain the NUL character (U+0000)"
    if not part.isascii() and any("\ud800" <= c <= "\udfff" for c in part):
        return "surrogate", "must not contain a lone surrogate (half of a character)"
    return None
