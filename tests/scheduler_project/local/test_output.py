from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

from scheduler_project.local.output import LogFile, Terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_labelled() -> None:
    stream = io.StringIO()

    Terminal(stream)("web", "hello")

    assert stream.getvalue() == "web      | hello\n"


def test_each_service_keeps_its_colour_on_a_terminal() -> None:
    screen = Screen()
    write = Terminal(screen)

    for name in ("web", "beat", "web"):
        write(name, "hello")

    first, second, third = screen.getvalue().splitlines()
    assert first == third != second
    assert first == "\033[36mweb      |\033[0m hello"


def test_a_terminal_that_is_gone_stops_no_service() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    Terminal(Gone())("web", "hello")


def test_the_last_lines_of_a_log_are_at_hand(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with closing(LogFile(path, tail_lines=2)) as log:
        for number in range(4):
            log("web", f"line {number}")

    assert list(log.tail) == ["web      | line 2", "web      | line 3"]
    assert len(path.read_text().splitlines()) == 4
