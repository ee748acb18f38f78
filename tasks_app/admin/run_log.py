"""The output of a run: the last lines for its page, and what came since."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from tasks_app.formats import absolute, time_of_day
from tasks_app.models import RunLog, TaskRun

MAX_LINES = 2_000
MAX_CHARS = 512 * 1024
CHUNKS_AT_ONCE = 200

Position = tuple[int, int]
"""An attempt and a chunk's number in it: chunks come in this order."""


@dataclass(slots=True)
class Line:
    """A line of output. It is open while its line end has not come."""

    attempt: int
    at: Any
    stream: str
    text: str
    is_open: bool
    starts_attempt: bool = False


@dataclass(frozen=True, slots=True)
class LogTail:
    """The newest lines, whether older ones are left out, and where to go on."""

    lines: list[Line]
    is_cut: bool
    after: str


def last_lines(run: TaskRun) -> LogTail:
    chunks, is_cut = _newest_chunks(run)
    lines = join_lines(chunks)
    is_cut = is_cut or len(lines) > MAX_LINES
    after = position_text((chunks[-1].attempt, chunks[-1].seq)) if chunks else ""
    return LogTail(lines[-MAX_LINES:], is_cut, after)


def _newest_chunks(run: TaskRun) -> tuple[list[RunLog], bool]:
    """The newest chunks, oldest first, up to MAX_CHARS; and whether there are more."""
    chunks: list[RunLog] = []
    room = MAX_CHARS
    for chunk in run.logs.order_by("-attempt", "-seq").iterator(chunk_size=20):
        room -= len(chunk.text)
        if chunks and room < 0:
            return chunks[::-1], True
        chunks.append(chunk)
    return chunks[::-1], False


def join_lines(chunks: Iterable[RunLog]) -> list[Line]:
    """Chunks cut into lines; what a chunk leaves open, the stream's next one ends."""
    lines: list[Line] = []
    open_lines: dict[tuple[int, str], Line] = {}
    for chunk in chunks:
        key = (chunk.attempt, chunk.stream)
        for text, is_open in _pieces(chunk.text):
            line = open_lines.pop(key, None)
            if line is None:
                is_first = not lines or lines[-1].attempt != chunk.attempt
                line = Line(
                    chunk.attempt, chunk.at, chunk.stream, "", is_open, is_first
                )
                lines.append(line)
            line.text, line.is_open = line.text + text, is_open
            if is_open:
                open_lines[key] = line
    return lines


def _pieces(text: str) -> Iterable[tuple[str, bool]]:
    """The lines of a chunk, each with whether its end is still to come."""
    *whole, rest = text.split("\n")
    for line in whole:
        yield line.removesuffix("\r"), False
    if rest:
        yield rest, True


def chunks_after(run: TaskRun, after: Position) -> list[RunLog]:
    """What came after a position, oldest first, so much at once."""
    attempt, seq = after
    later = Q(attempt=attempt, seq__gt=seq) | Q(attempt__gt=attempt)
    return list(run.logs.filter(later).order_by("attempt", "seq")[:CHUNKS_AT_ONCE])


def chunk_values(chunk: RunLog) -> dict[str, Any]:
    """A chunk as the page's script takes it."""
    return {
        "attempt": chunk.attempt,
        "at": time_of_day(chunk.at),
        "title": absolute(chunk.at),
        "iso": chunk.at.isoformat(),
        "stream": chunk.stream,
        "text": chunk.text,
    }


def parse_position(text: str) -> Position:
    """`<attempt>.<seq>`; anything else is the beginning."""
    found = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def position_text(position: Position) -> str:
    attempt, seq = position
    return f"{attempt}.{seq}"
