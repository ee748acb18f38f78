"""Searches text by a regular expression that may be a bad one.

Backtracking can take hours, holds the interpreter's lock and cannot be interrupted:
`.*a.*b` on a line of 64 KiB is enough to stop a worker's heartbeat. So anything but a
plain text is searched by a process that can be killed (15 ms).
"""

from __future__ import annotations

import asyncio
import re
import sys

from executors.processes import Command, run_process
from executors.text import one_line

SEARCH_SECONDS = 5.0

PROGRAM = """\
import re, sys
text = sys.stdin.buffer.read().decode("utf-8")
sys.exit(0 if re.search(sys.argv[1], text) else 3)
"""


class MatchTookTooLong(Exception):
    """The search did not end in time; make the expression simpler."""

    def __init__(self) -> None:
        super().__init__(
            f"the search took more than {SEARCH_SECONDS:g} s; use an expression with"
            " fewer * and +"
        )


async def search(pattern: str, text: str) -> bool:
    """Whether `pattern` is found in `text`. Raises MatchTookTooLong."""
    if not re.search(r"[\\.^$*+?{}\[\]|()]", pattern):
        return pattern in text
    command = Command(
        argv=(sys.executable, "-I", "-S", "-c", PROGRAM, pattern),
        environment={},
        cwd="/",
        stdin=text.encode(),
    )
    errors = bytearray()
    try:
        async with asyncio.timeout(SEARCH_SECONDS):
            code = await run_process(
                command,
                write=lambda _, chunk: errors.extend(chunk),
                grace_seconds=0,
            )
    except TimeoutError as error:
        raise MatchTookTooLong from error
    if code in {0, 3}:
        return code == 0
    raise RuntimeError(one_line(errors.decode("utf-8", "replace")))
