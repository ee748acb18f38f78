"""What the lines that jobs leave behind say about promises."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scheduler_project.chaos.traces import JOB, Breach, Rule, breaches, read

RULES = {
    "once": Rule(is_at_most_once=True),
    "repeat": Rule(is_at_most_once=False),
    "limited": Rule(is_at_most_once=False, max_concurrency=1),
}


def found(folder: Path, *lines: str) -> list[Breach]:
    path = folder / "traces"
    path.write_text("".join(f"{line}\n" for line in lines))
    return list(breaches(read(path), RULES))


def test_attempts_one_after_another_are_no_breach(tmp_path: Path) -> None:
    assert not found(
        tmp_path,
        "start 1 1 10.00 repeat",
        "tick 1 1 10.20 repeat",
        "start 1 2 10.20 repeat",
        "start 2 1 10.00 limited",
        "tick 2 1 11.00 limited",
        "start 3 1 11.00 limited",
    )


def test_an_attempt_that_outlives_the_next_ones_start_is_an_overlap(
    tmp_path: Path,
) -> None:
    (breach,) = found(
        tmp_path,
        "start 1 1 10.00 repeat",
        "start 1 2 11.00 repeat",
        "tick 1 1 11.50 repeat",
    )
    assert (breach.kind, breach.run_id) == ("jobs overlap", 1)
    assert "0.50 s" in breach.text


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_second_start_of_an_at_most_once_job_is_found(
    tmp_path: Path, attempt: int
) -> None:
    (breach,) = found(tmp_path, "start 1 1 10.00 once", f"start 1 {attempt} 12.00 once")
    assert breach.kind == "job started twice"


def test_a_second_start_of_one_attempt_is_found(tmp_path: Path) -> None:
    (breach,) = found(tmp_path, "start 1 2 10.00 repeat", "start 1 2 12.00 repeat")
    assert breach.kind == "job started twice"


def test_more_jobs_at_a_time_than_the_limit_are_found(tmp_path: Path) -> None:
    (breach,) = found(
        tmp_path,
        "start 1 1 10.00 limited",
        "start 2 1 10.50 limited",
        "tick 1 1 11.00 limited",
    )
    assert (breach.kind, breach.run_id) == ("too many jobs", 2)


def test_a_job_leaves_its_lines_and_fails_as_often_as_told(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text(JOB)
    environment = {**os.environ, "GNOMON_RUN_ID": "5", "GNOMON_TASK": "repeat"}
    codes = [
        subprocess.run(
            ["/bin/sh", tmp_path / "job.sh", "1", "1"],
            env={**environment, "GNOMON_ATTEMPT": str(attempt)},
            check=False,
        ).returncode
        for attempt in (1, 2)
    ]
    assert codes == [1, 0]
    spans = read(tmp_path / "traces")
    assert [(key, span.starts) for key, span in spans.items()] == [
        ((5, 1), 1),
        ((5, 2), 1),
    ]
    assert all(span.last - span.first >= 0.15 for span in spans.values())
