"""An attempt's output, cut into chunks for the ledger (C16)."""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from operator import itemgetter
from time import monotonic

from executors.base import Stream
from tasks_app.ledger import LogChunk, LogCut

Store = Callable[[LogChunk], bool]
Cut = Callable[[LogCut], None]

CHUNK_BYTES = 64 * 1024
CHUNK_SECONDS = 1.0
_MAX_PIECES = 64
"""Pieces of alternating streams in a chunk period; beyond, order between the streams
is given up rather than a row written for every line."""


class Output:
    """Takes output as it comes and stores it in chunks of at most 1 s or 64 KiB.

    Of output beyond `max_bytes` the head and the tail are kept, half each, with a
    line between them that says how much was cut. The tail is stored each second, so
    that it can be followed, and then what it has grown beyond its half is cut out.
    Lives on the event loop.
    """

    def __init__(
        self, run_id: int, attempt: int, store: Store, cut: Cut, max_bytes: int
    ) -> None:
        self._run_id = run_id
        self._attempt = attempt
        self._store = store
        self._cut = cut
        self._seq = 0
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {}
        self._pieces: list[tuple[str, list[str]]] = []
        self._pending_bytes = 0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._head_left = max_bytes // 2
        self._tail_bytes = max_bytes // 2
        self._coming: deque[tuple[str, str, int]] = deque()
        self._coming_left = self._tail_bytes
        self._coming_timer: asyncio.TimerHandle | None = None
        self._stored: deque[tuple[int, int]] = deque()
        self._remark_seq = 0
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
        if not self._decoders:
            return False  # most runs write nothing
        for stream, decoder in self._decoders.items():
            self._take(stream, decoder.decode(b"", final=True), 0)
        self._store_tail()
        self._flush()
        return self._is_cut

    def _take(self, stream: Stream, text: str, size: int) -> None:
        if not text:
            return
        if not self._remark_seq and size <= self._head_left:
            self._head_left -= size
            self._add(stream, text)
            return
        if not self._remark_seq:
            self._flush()
            self._seq += 1
            self._remark_seq = self._seq
        self._coming.append((stream, text, size))
        self._coming_left -= size
        while self._coming_left < 0:
            _stream, _text, dropped = self._coming.popleft()
            self._coming_left += dropped
            self._cut_bytes += dropped
        if self._coming_timer is None:
            self._coming_timer = asyncio.get_running_loop().call_later(
                CHUNK_SECONDS, self._store_tail
            )

    def _store_tail(self) -> None:
        """Store what has come since the last time, and cut what is too old for it."""
        if self._coming_timer is not None:
            self._coming_timer.cancel()
            self._coming_timer = None
        for stream, text, size in _grouped(self._coming):
            self._seq += 1
            chunk = LogChunk(self._run_id, self._attempt, self._seq, stream, text)
            self._is_cut |= not self._store(chunk)
            self._stored.append((self._seq, size))
        self._coming.clear()
        self._coming_left = self._tail_bytes
        if self._cut_bytes or sum(size for _, size in self._stored) > self._tail_bytes:
            self._cut_stored()

    def _cut_stored(self) -> None:
        """Cut the oldest chunks of the tail, as far as all of each is too much."""
        cut_until = self._remark_seq
        too_much = sum(size for _seq, size in self._stored) - self._tail_bytes
        while self._stored and self._stored[0][1] <= too_much:
            cut_until, size = self._stored.popleft()
            too_much -= size
            self._cut_bytes += size
        if self._cut_bytes:
            self._is_cut = True
            self._cut(
                LogCut(
                    self._run_id,
                    self._attempt,
                    self._remark_seq,
                    cut_until,
                    self._cut_bytes,
                )
            )

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


def _grouped(coming: Iterable[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Pieces of one stream that follow each other as one, of at most CHUNK_BYTES."""
    pieces = list(coming)
    changes = sum(one[0] != next_one[0] for one, next_one in pairwise(pieces))
    if changes > _MAX_PIECES:
        pieces.sort(key=itemgetter(0))
    groups: list[tuple[str, list[str], int]] = []
    for stream, text, size in pieces:
        last = groups[-1] if groups else ("", [], 0)
        if last[0] == stream and last[2] + size <= CHUNK_BYTES:
            last[1].append(text)
            groups[-1] = (stream, last[1], last[2] + size)
        else:
            groups.append((stream, [text], size))
    return [(stream, "".join(texts), size) for stream, texts, size in groups]
