"""A whole trial: the product passes it, and a mutant does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


def chaos(*argv: str) -> subprocess.Popen[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "BROKER_URL"}
    }
    return subprocess.Popen(
        [sys.executable, "manage.py", "chaos", *argv],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(seconds: int, *argv: str) -> tuple[int, dict[str, Any]]:
    with chaos("--seconds", str(seconds), "--json", *argv) as trial:
        out, err = trial.communicate(timeout=150)
    for folder in folders(err):
        shutil.rmtree(folder, ignore_errors=True)
    assert out, err
    assert not left_over(err)
    return trial.returncode, json.loads(out)


def folders(err: str) -> Iterator[Path]:
    yield from map(Path, re.findall(r"(/\S+/gnomon-chaos-\w+)", err))


def left_over(err: str) -> list[str]:
    """Command lines of processes that name the trial's folder."""
    return [
        line
        for path in Path("/proc").glob("[0-9]*/cmdline")
        for folder in folders(err)
        if str(folder) in (line := _read(path))
    ]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.fault
@pytest.mark.timeout(200)
def test_the_platform_keeps_its_promises_under_faults() -> None:
    code, result = outcome(15, "--seed", "1")
    assert result["findings"] == []
    assert code == 0
    assert sum(result["faults"].values()) >= 8
    assert result["checked"]["fires"] > 50


@pytest.mark.fault
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    # A fence is missed only where a worker was frozen for longer than its lease.
    ("mutant", "seconds", "promise"),
    [("no-fencing", 30, "C5"), ("no-unique", 15, "C1")],
)
def test_a_missing_safeguard_is_seen(mutant: str, seconds: int, promise: str) -> None:
    code, result = outcome(seconds, "--seed", "1", "--mutate", mutant)
    assert promise in {found["promise"] for found in result["findings"]}
    assert code == 1


@pytest.mark.fault
@pytest.mark.timeout(100)
def test_ctrl_c_leaves_no_process_behind() -> None:
    with chaos("--seconds", "60", "--seed", "2") as trial:
        assert trial.stderr
        begun = time.monotonic()
        for line in trial.stderr:  # the first fault has struck
            if " faults: " in line or time.monotonic() > begun + 60:
                break
        trial.send_signal(signal.SIGINT)
        _, err = trial.communicate(timeout=60)
    assert trial.returncode == 2
    assert left_over(err) == []
    (folder,) = set(folders(err))
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--seconds", "0"], "no number from 1 on"),
        (["--broker", "sqs://somewhere"], "use one of"),
        (["--mutate", "no-luck"], "invalid choice"),
    ],
)
def test_bad_arguments_are_code_2_and_say_what_is_allowed(
    argv: list[str], says: str
) -> None:
    with chaos(*argv) as trial:
        _, err = trial.communicate(timeout=60)
    assert trial.returncode == 2
    assert says in err
    for folder in folders(err):
        shutil.rmtree(folder, ignore_errors=True)
