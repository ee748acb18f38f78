"""An attempt's output, cut into chunks for the ledger (C16)."""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import Callable
from time import monotonic

from executors.base import Stream
from tasks_app.ledger import LogChunk

CHUNK_BYTES = 64 * 1024
CHUNK_SECONDS = 1.0
_MAX_PIECES = 64
"""Pieces of alternating streams in a chunk period; beyond, order between the streams
is given up rather than a row written for every line."""


class Output:
    """Takes output as it comes and stores it in chunks of at most 1 s or 64 KiB.

    Of output beyond `max_bytes` the head and the tail are kept, half each, with a
    line between them that says how much was cut. Lives on the event loop.
    """

    def __init__(
        self,
        run_id: int,
        attempt: int,
        store: Callable[[LogChunk], bool],
        max_bytes: int,
    ) -> None:
        self._run_id = run_id
        self._attempt = attempt
        self._store = store
        self._seq = 0
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {}
        self._pieces: list[tuple[str, list[str]]] = []
        self._pending_bytes = 0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._head_left = max_bytes // 2
        self._tail: deque[tuple[str, str, int]] = deque()
        self._tail_left = max_bytes // 2
        self._cut_bytes = 0
        self._is_cut = False

    def write(self, stream: Stream, data: bytes) -> None:
        """Take a piece of output; never blocks."""
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._decoders[stream] = decoder
        self._take(stream, decoder.decode(data), len(data))

    def close(self) -> bool:
        """Store what is left. Returns whether anything was cut out or dropped."""
        for stream, decoder in self._decoders.items():
            self._take(stream, decoder.decode(b"", final=True), 0)
        if self._cut_bytes:
            self._is_cut = True
            self._add(
                "gnomon", f"\n[{self._cut_bytes} bytes of output were cut here]\n"
            )
        for stream_name, text, _size in self._tail:
            self._add(stream_name, text)
        self._flush()
        return self._is_cut

    def _take(self, stream: Stream, text: str, size: int) -> None:
        if not text:
            return
        if not self._tail and size <= self._head_left:
            self._head_left -= size
            self._add(stream, text)
            return
        self._head_left = 0
        self._tail.append((stream, text, size))
        self._tail_left -= size
        while self._tail_left < 0:
            _stream, _text, dropped = self._tail.popleft()
            self._tail_left += dropped
            self._cut_bytes += dropped

    def _add(self, stream: str, text: str) -> None:
        for start in range(0, len(text), CHUNK_BYTES):
            self._add_piece(stream, text[start : start + CHUNK_BYTES])

    def _add_piece(self, stream: str, text: str) -> None:
        if self._pending_bytes + len(text) > CHUNK_BYTES:
            self._flush()
        if not self._pieces:
            self._since = monotonic()
            self._timer = asyncio.get_running_loop().call_later(
                CHUNK_SECONDS, self._flush
            )
        self._piece_of(stream).append(text)
        self._pending_bytes += len(text)

    def _piece_of(self, stream: str) -> list[str]:
        if self._pieces and self._pieces[-1][0] == stream:
            return self._pieces[-1][1]
        if len(self._pieces) >= _MAX_PIECES:
            for name, texts in reversed(self._pieces):
                if name == stream:
                    return texts
        self._pieces.append((stream, []))
        return self._pieces[-1][1]

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        age = monotonic() - self._since
        for stream, texts in self._pieces:
            self._seq += 1
            chunk = LogChunk(
                self._run_id, self._attempt, self._seq, stream, "".join(texts), age
            )
            self._is_cut |= not self._store(chunk)
        self._pieces = []
        self._pending_bytes = 0
