from __future__ import annotations

import asyncio
import time

import pytest

from executors import matching
from executors.matching import MatchTookTooLong, search
from tests.executors.harness import in_loop


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        ("b c", "a b c d", True),
        ("b d", "a b c d", False),
        (r"b\s+c", "a b \n c", True),
        ("^b", "a b", False),
        ("ü.", "aüß", True),
        ("a|x", "", False),
    ],
)
def test_a_pattern_is_searched_anywhere(
    pattern: str, text: str, *, is_found: bool
) -> None:
    assert in_loop(search(pattern, text)) is is_found


def test_a_pattern_that_would_take_hours_stops_neither_the_loop_nor_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matching, "SEARCH_SECONDS", 0.3)

    async def work() -> float:
        task = asyncio.create_task(search("(a+)+$", "a" * 5000 + "b"))
        longest = 0.0
        while not task.done():
            began = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - began)
        with pytest.raises(MatchTookTooLong, match="fewer"):
            await task
        return longest

    assert in_loop(work()) < 0.3
