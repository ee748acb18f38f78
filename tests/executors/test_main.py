from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.executors.conftest import TargetServer
from tests.executors.harness import is_alive

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "executors", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=20)
    return process.returncode, stdout, stderr


def test_output_comes_as_it_is_and_the_outcome_last() -> None:
    process = command("shell", "--command", "echo out; echo err >&2; exit 3")
    code, stdout, stderr = finish(process)
    assert (code, stdout) == (3, "out\n")
    assert stderr == "err\nexecutors: failed (exit_code) - exit code 3: err\n"


def test_with_json_stdout_is_the_outcome_alone() -> None:
    process = command(
        "shell", "--argv", '["sh", "-c", "echo out; kill -9 $$"]', "--json"
    )
    code, stdout, stderr = finish(process)
    assert code == 128 + 9
    assert json.loads(stdout) == {
        "status": "failed",
        "exit_code": -9,
        "result": None,
        "error": "killed by SIGKILL",
        "reason": "signal",
    }
    assert stderr == "out\n"


def test_an_http_call_takes_typed_options(target: TargetServer) -> None:
    code, stdout, _ = finish(
        command(
            "http", "--command", target.url("/ok"), "--method", "POST", "--headers",
            '{"X-A": "b"}', "--payload-json", "[1]", "--max-body-bytes", "3",
            "--no-follow-redirects",
        )
    )  # fmt: skip
    assert code == 0
    assert stdout.endswith("\nall")
    assert target.received[0][3] == b"[1]"
    assert target.received[0][2]["X-A"] == "b"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shell", "--command", "x", "--umask", "9"], "--umask: must be three or four"),
        (["shell"], "must be given either command"),
        (["shell", "--command", "x", "--env", '{"PATH": "x"}'], "--env.PATH: must be"),
        (["shell", "--command", "x", "--env", "A=b"], "is not JSON"),
        (["http", "--command", "nope"], "--command: must be a URL"),
        (["nope"], "invalid choice"),
        ([], "required"),
    ],
)
def test_a_wrong_command_line_names_the_option(
    arguments: list[str], words: str
) -> None:
    code, stdout, stderr = finish(command(*arguments))
    assert (code, stdout) == (2, "")
    assert words in stderr
    assert "Traceback" not in stderr


def test_list_shows_every_executor() -> None:
    code, stdout, _ = finish(command("list"))
    assert code == 0
    assert [line.split()[0] for line in stdout.splitlines()][:3] == [
        "shell", "http", "python",
    ]  # fmt: skip


def test_a_timeout_is_a_failure() -> None:
    process = command("shell", "--command", "sleep 20", "--timeout", "0.1")
    code, _, stderr = finish(process)
    assert code == 1
    assert "timed_out (timeout) - timed out after 0.1 s" in stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_and_leaves_nothing_running(number: signal.Signals) -> None:
    process = command("shell", "--command", "echo $$; exec sleep 20")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(number)
    code, _, stderr = finish(process)
    assert code == 1
    assert stderr == "executors: cancelled (cancelled) - cancelled\n"
    assert not is_alive(pid)
