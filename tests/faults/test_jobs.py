"""C8 and C10 with jobs that fight back, and with many workers for one task."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tasks_app.models import RunLog
from tests.factories import make_run, make_task
from tests.services import FAST, ended, platform, until
from workers_app.models import WorkerInfo

pytestmark = pytest.mark.fault

HOSTILE = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            break
        os._exit(0)
open(sys.argv[1] + f"/{os.getpid()}", "w").close()
while True:
    os.write(1, b"x" * 65536)
"""


def alive_of(folder: Path) -> set[int]:
    """The processes whose command line names the folder."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if str(folder).encode() in words:
            found.add(int(path.parts[2]))
    return found - {os.getpid()}


def test_of_a_hostile_job_nothing_is_left(
    database: None, valkey_url: str, tmp_path: Path
) -> None:
    program, marks = tmp_path / "hostile.py", tmp_path / "marks"
    program.write_text(HOSTILE)
    marks.mkdir()
    limit = {"MAX_LOG_BYTES": "100000"}
    with platform(valkey_url, tmp_path, **FAST, **limit) as started:
        started.beat()
        started.worker()
        task = make_task(
            queue=started.queue,
            command=f"exec {sys.executable} {program} {marks}",
            timeout_seconds=2,
        )
        run = make_run(task)
        until(lambda: len(list(marks.iterdir())) >= 2, started)
        assert ended(run, started).status == "timed_out"
        deadline = time.monotonic() + 2
        while alive_of(marks) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alive_of(marks) == set()
        assert run.log_truncated
        kept = sum(len(row.text) for row in RunLog.objects.filter(run=run))
        assert kept < 200_000


def test_of_twenty_claimers_no_more_run_than_the_task_allows(
    database: None, valkey_url: str, tmp_path: Path
) -> None:
    """Each job takes one of three places, and finds one free."""
    places = tmp_path / "places"
    places.mkdir()
    take = f"mkdir {places}/$place 2>/dev/null"
    leave = f"sleep 0.3; rmdir {places}/$place; exit 0"
    command = f"for place in 1 2 3; do {take} && {{ {leave}; }}; done; exit 7"
    names = [f"claimer-{number}" for number in range(4)]
    slots = {"WORKER_CONCURRENCY": "5", "POLL_SECONDS": "0.1"}
    with platform(valkey_url, tmp_path, **{**FAST, **slots}) as started:
        started.beat()
        for name in names:
            started.worker(name)
        online = WorkerInfo.objects.alive().filter(name__in=names)
        until(lambda: online.count() == 4, started)
        task = make_task(
            queue=started.queue, command=command, overlap="queue", max_concurrency=3
        )
        runs = [make_run(task) for _ in range(30)]
        for run in runs:
            assert ended(run, started).exit_code == 0
        spans = sorted((run.started_at, run.completed_at) for run in runs)
        at_once = [
            sum(begin <= at < end for begin, end in spans if begin and end)
            for at, _end in spans
            if at
        ]
        assert max(at_once) == 3
