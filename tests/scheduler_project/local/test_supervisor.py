from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scheduler_project.local.supervisor import (
    Exit,
    NotReadyError,
    Service,
    ServiceDiedError,
    Supervisor,
    describe_exit,
)
from tests.scheduler_project.local.waiting import runs, wait_until

Lines = list[tuple[str, str]]


@pytest.fixture
def lines() -> Lines:
    return []


@pytest.fixture
def supervisor(lines: Lines) -> Iterator[Supervisor]:
    with Supervisor(lambda name, line: lines.append((name, line))) as running:
        yield running


def shell(script: str, name: str = "child", *, is_essential: bool = True) -> Service:
    return Service(name, ["sh", "-c", script], is_essential=is_essential)


def test_lines_come_with_the_name_of_their_service(
    supervisor: Supervisor, lines: Lines
) -> None:
    supervisor.start(shell("echo out; echo err >&2", "web", is_essential=False))

    assert supervisor.wait(10) == Exit("web", 0)
    assert lines == [("web", "out"), ("web", "err")]


def test_the_death_of_an_essential_service_names_it_and_its_exit_code(
    supervisor: Supervisor,
) -> None:
    supervisor.start(shell("exit 3", "beat"))

    with pytest.raises(ServiceDiedError, match="beat died: exit code 3"):
        supervisor.wait(10)


def test_a_service_that_was_killed_is_said_to_be(supervisor: Supervisor) -> None:
    supervisor.start(shell("kill -KILL $$", "worker"))

    with pytest.raises(ServiceDiedError, match="worker died: killed by SIGKILL"):
        supervisor.wait(10)


def test_waiting_for_a_service_ends_when_another_dies(supervisor: Supervisor) -> None:
    supervisor.start(shell("exit 1", "postgres"))

    with pytest.raises(ServiceDiedError, match="postgres"):
        supervisor.wait_until(lambda: False, "web", 10)


def test_a_service_that_is_never_ready_is_not_waited_for_for_ever(
    supervisor: Supervisor,
) -> None:
    with pytest.raises(NotReadyError, match=r"web is not ready after 0\.1 s"):
        supervisor.wait_until(lambda: False, "web", 0.1)


def test_services_that_serve_others_are_stopped_last(lines: Lines) -> None:
    says_when_it_stops = (
        "trap 'echo stopped; exit' TERM; echo up; while :; do sleep 0.01; done"
    )
    command = ["sh", "-c", says_when_it_stops]
    with Supervisor(lambda name, line: lines.append((name, line))) as supervisor:
        supervisor.start(Service("broker", command, serves_others=True))
        supervisor.start(Service("worker", command))
        wait_until(lambda: len(lines) == 2, "both are up")

    assert lines[2:] == [("worker", "stopped"), ("broker", "stopped")]


def test_a_service_that_ignores_the_request_to_stop_is_killed(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    monkeypatch.setattr("scheduler_project.local.supervisor.STOP_SECONDS", 0.2)
    with Supervisor(lambda name, line: lines.append((name, line))) as supervisor:
        supervisor.start(shell("trap '' TERM; echo $$; while :; do sleep 1; done"))
        wait_until(lambda: bool(lines), "it is up")

    wait_until(lambda: not runs(int(lines[0][1])), "it is gone")
    assert lines[1:] == [("child", "does not stop in time: killed")]


def test_what_a_dead_service_leaves_behind_is_killed(
    supervisor: Supervisor, lines: Lines
) -> None:
    supervisor.start(shell("sleep 600 & echo $!; exit 1"))

    with pytest.raises(ServiceDiedError):
        supervisor.wait(10)
    wait_until(lambda: not runs(int(lines[0][1])), "its own child is gone")


def test_what_a_stopped_service_leaves_behind_is_killed(lines: Lines) -> None:
    with Supervisor(lambda name, line: lines.append((name, line))) as supervisor:
        supervisor.start(shell("sleep 600 & echo $!; wait"))
        wait_until(lambda: bool(lines), "it is up")

    wait_until(lambda: not runs(int(lines[0][1])), "its own child is gone")


PARENT = """
import sys, time
from scheduler_project.local.supervisor import Service, Supervisor
with Supervisor(lambda name, line: print(line, flush=True)) as supervisor:
    supervisor.start(Service("child", ["sh", "-c", "echo $$; exec sleep 600"]))
    time.sleep(600)
"""


def test_services_go_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    assert runs(child)

    parent.kill()
    parent.communicate()

    wait_until(lambda: not runs(child), "the child is gone")


def test_a_second_interrupt_kills(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """Ctrl-C during the orderly stop, which would take 600 s."""
    monkeypatch.setattr("scheduler_project.local.supervisor.STOP_SECONDS", 600)
    began = time.monotonic()
    with Supervisor(lambda name, line: lines.append((name, line))) as supervisor:
        supervisor.start(
            shell(
                f"trap 'echo asked; kill -INT {os.getpid()}' TERM; echo $$;"
                " while :; do sleep 0.01; done"
            )
        )
        wait_until(lambda: bool(lines), "it is up")

    assert time.monotonic() - began < 60
    wait_until(lambda: not runs(int(lines[0][1])), "it is gone")


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (70, "exit code 70"), (-signal.SIGTERM, "killed by SIGTERM")],
)
def test_exit_codes_are_described(code: int, words: str) -> None:
    assert describe_exit(code) == words
