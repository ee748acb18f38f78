"""`manage.py up` and `manage.py demo`, as people start them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scheduler_project.local.ports import free_port
from tests.services import ROOT

STOP_SECONDS = 60


@pytest.fixture
def database(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("db"))


def environment(folder: Path) -> dict[str, str]:
    """The environment of someone who has set nothing but the data's place."""
    given = {"DATABASE_URL", "BROKER_URL", "SECRET_KEY"}
    mine = {name: value for name, value in os.environ.items() if name not in given}
    return {**mine, "GNOMON_VAR": str(folder)}


class Up:
    """A running `manage.py up` and what it has said so far."""

    def __init__(self, folder: Path, database: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "manage.py", "up", "--no-flower"),
                *("--db", database, "--port", str(free_port())),
            ],
            cwd=ROOT,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def read_until(self, text: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if text in line:
                return
        raise AssertionError("\n".join(self.lines))

    def said(self, pattern: str) -> str:
        found = re.search(pattern, "\n".join(self.lines))
        assert found, "\n".join(self.lines)
        return found[1]

    def child(self, command: str) -> int:
        """The process id of the service that runs `command`."""
        of_up = ["pgrep", "--parent", str(self.process.pid), "--full", command]
        return int(subprocess.check_output(of_up, text=True).split()[0])

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        output, _ = self.process.communicate(timeout=STOP_SECONDS)
        self.lines += output.splitlines()
        return self.process.returncode


@contextmanager
def up(folder: Path, database: str) -> Iterator[Up]:
    platform = Up(folder, database)
    try:
        platform.read_until("Ctrl-C stops everything")
        yield platform
    finally:
        platform.process.send_signal(signal.SIGTERM)
        platform.end()


def test_up_serves_says_how_to_log_in_and_stops_on_ctrl_c(
    tmp_path: Path, database: str
) -> None:
    with up(tmp_path, database) as first:
        url = first.said(r"Web +(http://127\.0\.0\.1:\d+)/admin/")
        assert first.said(r"Login +admin / (\S+)")
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            assert answer.status == 200
        first.process.send_signal(signal.SIGINT)
        assert first.end() == 0
        assert first.lines[-1] == "The platform has stopped."

    with up(tmp_path, database) as second:
        assert second.said("Login +(as before)")


def test_up_ends_loudly_when_a_service_dies(tmp_path: Path, database: str) -> None:
    with up(tmp_path, database) as platform:
        os.kill(platform.child("manage.py worker"), signal.SIGKILL)

        assert platform.end() == 1
    assert "worker died: killed by SIGKILL" in platform.lines[-1]


def test_a_second_up_on_the_same_data_is_refused(tmp_path: Path, database: str) -> None:
    with up(tmp_path, database) as first:
        second = Up(tmp_path, database)

        assert second.end() == 1
    assert f"(process {first.process.pid}): stop it first" in second.lines[-1]


def test_up_takes_one_database_not_two(tmp_path: Path) -> None:
    both = {**environment(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/db"}
    asked = subprocess.run(
        [sys.executable, "manage.py", "up", "--db", "postgres"],
        cwd=ROOT,
        env=both,
        capture_output=True,
        text=True,
        check=False,
    )

    assert asked.returncode == 1
    assert "give one of them" in asked.stderr


@pytest.mark.timeout(180)  # the cron task waits for its minute
def test_the_demo_tasks_end_as_expected(tmp_path: Path, database: str) -> None:
    demo = subprocess.run(
        [sys.executable, "manage.py", "demo", "--json", "--db", database],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert demo.returncode == 0, demo.stderr
    report = json.loads(demo.stdout)
    assert report["ok"]
    assert {run["task"]: run["status"] for run in report["runs"]} == {
        "demo-interval": "succeeded",
        "demo-cron": "succeeded",
        "demo-extract": "succeeded",
        "demo-report": "succeeded",
        "demo-http": "succeeded",
        "demo-retry": "succeeded",
        "demo-timeout": "timed_out",
    }
