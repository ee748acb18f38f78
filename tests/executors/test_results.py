from __future__ import annotations

import json
from typing import Any

import pytest

from executors.base import OutcomeStatus
from tests.executors.harness import open_files, shell


@pytest.mark.parametrize("value", [{"rows": 3}, [1, "ü"], "done", 0, False, None])
def test_a_json_value_becomes_the_result(value: Any) -> None:
    outcome, _ = shell(f"printf '%s' '{json.dumps(value)}' > $GNOMON_OUTPUT")
    assert (outcome.status, outcome.error) == (OutcomeStatus.SUCCEEDED, "")
    assert outcome.result == value


def test_a_failed_job_may_have_a_result_too() -> None:
    outcome, _ = shell("echo '{\"done\": 7}' > $GNOMON_OUTPUT; exit 3")
    assert (outcome.exit_code, outcome.result) == (3, {"done": 7})


def test_without_a_file_there_is_no_result() -> None:
    assert shell("true")[0].result is None
    assert shell(": > $GNOMON_OUTPUT")[0].result is None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo done > $GNOMON_OUTPUT", "not JSON"),
        ("echo NaN > $GNOMON_OUTPUT", "finite"),
        ("echo '\"\\u0000\"' > $GNOMON_OUTPUT", "NUL"),
        ("head -c 60000 /dev/zero | tr '\\0' '[' > $GNOMON_OUTPUT", "JSON"),
        ("head -c 70000 /dev/zero > $GNOMON_OUTPUT", "larger than 65536"),
        ("ln -s /etc/shadow $GNOMON_OUTPUT", "cannot be read"),
        ("mkfifo $GNOMON_OUTPUT", "not a plain file"),
        ("mkdir $GNOMON_OUTPUT", "not a plain file"),
    ],
)
def test_what_cannot_be_kept_is_said_and_the_outcome_stands(
    command: str, words: str
) -> None:
    files = open_files()
    outcome, output = shell(command)
    assert (outcome.status, outcome.exit_code) == (OutcomeStatus.SUCCEEDED, 0)
    assert outcome.result is None
    assert words in outcome.error
    assert words in output.stderr.decode()
    assert open_files() == files
