"""C16: output is kept in chunks, head and tail of what is too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tasks_app.ledger import LogChunk, LogCut
from workers_app.output import CHUNK_BYTES, Output


def output_into(chunks: list[LogChunk], max_bytes: int = 1000) -> Output:
    """An output whose chunks are kept there, cut as the ledger cuts them."""

    def store(chunk: LogChunk) -> bool:
        chunks.append(chunk)
        return True

    def cut(cut: LogCut) -> None:
        chunks[:] = [
            chunk for chunk in chunks if not cut.remark_seq <= chunk.seq <= cut.last_seq
        ]
        remark = f"[{cut.cut_bytes} bytes of output were cut here]"
        chunks.append(LogChunk(7, 2, cut.remark_seq, "gnomon", remark))
        chunks.sort(key=lambda chunk: chunk.seq)

    return Output(7, 2, store, cut, max_bytes)


def collect(
    write: Callable[[Output], None], max_bytes: int = 1_000_000
) -> tuple[list[LogChunk], bool]:
    """The chunks of an attempt that writes so, and whether any was cut."""

    async def attempt() -> tuple[list[LogChunk], bool]:
        chunks: list[LogChunk] = []
        output = output_into(chunks, max_bytes)
        write(output)
        was_cut = output.close()
        return chunks, was_cut

    return asyncio.run(attempt())


def text_of(chunks: list[LogChunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def test_a_little_output_is_one_chunk() -> None:
    def write(output: Output) -> None:
        output.write("stdout", b"one\n")
        output.write("stdout", b"two\n")

    chunks, was_cut = collect(write)
    assert [(c.run_id, c.attempt, c.seq, c.stream, c.text) for c in chunks] == [
        (7, 2, 1, "stdout", "one\ntwo\n")
    ]
    assert not was_cut


def test_streams_are_told_apart_in_their_order() -> None:
    def write(output: Output) -> None:
        output.write("stdout", b"a")
        output.write("stderr", b"b")
        output.write("stdout", b"c")

    chunks, _ = collect(write)
    assert [(c.stream, c.text) for c in chunks] == [
        ("stdout", "a"),
        ("stderr", "b"),
        ("stdout", "c"),
    ]
    assert [c.seq for c in chunks] == [1, 2, 3]


def test_a_chunk_is_at_most_64_kib() -> None:
    chunks, _ = collect(lambda output: output.write("stdout", b"x" * 300_000))
    assert all(len(chunk.text) <= CHUNK_BYTES for chunk in chunks)
    assert text_of(chunks) == "x" * 300_000


def test_lines_in_turns_do_not_make_a_row_each() -> None:
    def write(output: Output) -> None:
        for _ in range(1000):
            output.write("stdout", b"o")
            output.write("stderr", b"e")

    chunks, _ = collect(write)
    assert len(chunks) < 100
    assert sorted(text_of(chunks)) == ["e"] * 1000 + ["o"] * 1000


def test_a_character_split_between_writes_is_whole() -> None:
    def write(output: Output) -> None:
        output.write("stdout", "é".encode()[:1])
        output.write("stdout", "é".encode()[1:])

    assert text_of(collect(write)[0]) == "é"


def test_what_is_no_utf8_is_replaced() -> None:
    assert text_of(collect(lambda o: o.write("stdout", b"a\xff"))[0]) == "a\ufffd"


def test_too_much_output_keeps_head_and_tail_and_says_how_much_was_cut() -> None:
    def write(output: Output) -> None:
        for number in range(1000):
            output.write("stdout", f"{number:09}\n".encode())

    chunks, was_cut = collect(write, max_bytes=1000)
    text = text_of(chunks)
    assert was_cut
    assert text.startswith("000000000\n")
    assert text.endswith("000000999\n")
    assert "[9000 bytes of output were cut here]" in text
    assert len(text) < 1100


def test_the_tail_of_too_much_output_is_stored_while_the_job_runs() -> None:
    async def attempt() -> list[LogChunk]:
        chunks: list[LogChunk] = []
        output = output_into(chunks)
        for number in range(100):
            output.write("stdout", f"{number:09}\n".encode() * 3)
            async with asyncio.timeout(5):
                while number in {33, 66, 99} and f"{number:09}" not in text_of(chunks):
                    await asyncio.sleep(0.01)
        return chunks

    text = text_of(asyncio.run(attempt()))
    assert text.startswith("000000000\n")
    assert "bytes of output were cut here]" in text
    assert "000000033\n" not in text
    assert len(text) < 1600


def test_output_is_stored_within_a_second_while_the_job_runs() -> None:
    async def attempt() -> list[LogChunk]:
        chunks: list[LogChunk] = []
        output = output_into(chunks)
        output.write("stdout", b"early")
        async with asyncio.timeout(5):
            while not chunks:
                await asyncio.sleep(0.01)
        return chunks

    assert text_of(asyncio.run(attempt())) == "early"


def test_a_piece_that_could_not_be_kept_is_told() -> None:
    async def attempt() -> bool:
        output = Output(1, 1, lambda _chunk: False, lambda _cut: None, 1000)
        output.write("stdout", b"lost")
        return output.close()

    assert asyncio.run(attempt())
