"""Where the lines of the services go: labelled to the terminal, or to a file."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 31)
LABEL_WIDTH = 8


class Terminal:
    """Writes each line behind the name of its service, in the service's colour."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._names: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        # A closed terminal or pipe must not stop the reading: the service would block.
        with self._lock, suppress(OSError):
            self._stream.write(f"{self._label(name)} {line}\n")
            self._stream.flush()

    def _label(self, name: str) -> str:
        label = f"{name:<{LABEL_WIDTH}} |"
        if not self._stream.isatty():
            return label
        if name not in self._names:
            self._names.append(name)
        colour = COLOURS[self._names.index(name) % len(COLOURS)]
        return f"\033[{colour}m{label}\033[0m"


class LogFile:
    """Keeps all lines in a file, and the last ones at hand."""

    def __init__(self, path: Path, tail_lines: int = 30) -> None:
        self.path = path
        self.tail: deque[str] = deque(maxlen=tail_lines)
        self._file = path.open("a")
        self._lock = threading.Lock()

    def __call__(self, name: str, line: str) -> None:
        text = f"{name:<{LABEL_WIDTH}} | {line}"
        with self._lock:
            self.tail.append(text)
            self._file.write(text + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()
