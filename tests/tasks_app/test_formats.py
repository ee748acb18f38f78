"""Times, durations and exit codes in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks_app.choices import RunStatus
from tasks_app.formats import (
    absolute,
    duration,
    exit_code_meaning,
    relative,
    run_status,
)
from tasks_app.models import TaskRun

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.9, "now"),
        (-5, "5 sec. ago"),
        (61, "in 1 min."),
        (-7200, "2 hr. ago"),
        (86_400, "in 1 day"),
        (-3 * 86_400, "3 days ago"),
        (70 * 86_400, "in 2 mo."),
        (-800 * 86_400, "2 yr. ago"),
    ],
)
def test_relative(seconds: float, text: str) -> None:
    assert relative(NOW + timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2026-01-31 12:00:00 UTC"),
        (
            "Asia/Shanghai",
            "2026-01-31 20:00:00 Asia/Shanghai · 2026-01-31 12:00:00 UTC",
        ),
        ("No/Such", "2026-01-31 12:00:00 No/Such · 2026-01-31 12:00:00 UTC"),
    ],
)
def test_absolute(zone: str, text: str) -> None:
    assert absolute(NOW, zone) == text


@pytest.mark.parametrize("status", [*RunStatus.values, "of a later version"])
def test_a_choice_reads_as_django_has_it(status: str) -> None:
    assert run_status(status) == TaskRun(status=status).get_status_display()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0421, "42 ms"),
        (3.14, "3.1 s"),
        (59.96, "1m 00s"),
        (185, "3m 05s"),
        (7_620, "2h 07m"),
        (93_600, "1d 02h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "success"),
        (127, "command not found"),
        (137, "SIGKILL"),
        (-9, "SIGKILL"),
        (-15, "SIGTERM: asked to stop"),
        (129, "SIGHUP"),
        (42, "the command's own code"),
        (255, "the command's own code"),
        (-1000, "the command's own code"),
    ],
)
def test_exit_code_meaning(code: int, words: str) -> None:
    assert words in exit_code_meaning(code)
