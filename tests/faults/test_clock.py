"""C13: the clock of a real PostgreSQL is moved while runs run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks_app import ledger
from tasks_app.ledger.verifying import Verifier
from tasks_app.models import TaskRun
from tasks_app.services.tasks import task_pause
from tests.factories import make_run, make_task
from tests.faults.jobs import Diary, wait
from tests.faults.servers import Killable, own_postgresql
from tests.services import FAST, ended, platform, until

pytestmark = pytest.mark.fault

LEASE_SECONDS = float(FAST["LEASE_SECONDS"])
libfaketime = pytest.importorskip("libfaketime", reason="libfaketime is not installed")


class Clock:
    """What the PostgreSQL under test takes for the time: the host's, moved."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.move(0)

    def move(self, seconds: int) -> None:
        self._path.write_text(f"{seconds:+d}\n")
        self._path.chmod(0o644)  # PostgreSQL may be another user

    @property
    def environment(self) -> dict[str, str]:
        package = Path(libfaketime.__file__).parent
        return {
            "LD_PRELOAD": str(package / "vendor/libfaketime/src/libfaketime.so.1"),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def clock(folder: Path) -> Clock:
    return Clock(folder / "clock")


@pytest.fixture
def database_with_clock(
    clock: Clock, folder: Path, django_db_blocker: Any
) -> Iterator[Killable]:
    with (
        django_db_blocker.unblock(),
        own_postgresql(folder / "database", clock.environment) as server,
    ):
        yield server


def test_a_jump_of_the_databases_clock_kills_no_run_and_repeats_no_fire(  # noqa: PLR0915
    database_with_clock: Killable, clock: Clock, valkey_url: str, tmp_path: Path
) -> None:
    diary, end = Diary(tmp_path / "diary"), tmp_path / "end"
    waiting = f"{diary.entry('begins')}; until test -e {end}; do sleep 0.1; done"
    with platform(valkey_url, tmp_path, **FAST) as started:
        started.beat()
        started.worker()
        every = make_task(queue=started.queue, interval_seconds=1)
        long = [
            make_run(make_task(queue=started.queue, command=waiting)),
            make_run(make_task(queue=started.queue, command=waiting, max_attempts=2)),
        ]
        until(lambda: len(diary.lines()) == 2, started)
        until(lambda: every.runs.filter(status="succeeded").count() >= 2, started)

        before = ledger.database_now()
        clock.move(3600)
        assert ledger.database_now() - before > timedelta(minutes=59)
        until(lambda: every.runs.filter(scheduled_for__gt=before).exists(), started)
        wait(3 * LEASE_SECONDS)  # the reaper has held, and looks again
        newest = every.runs.latest("scheduled_for").scheduled_for
        assert newest - before > timedelta(minutes=59)
        assert list(Verifier().findings(every.pk)) == []

        clock.move(0)
        assert ledger.database_now() < newest
        planned = every.runs.count()
        wait(3 * LEASE_SECONDS)
        assert every.runs.count() - planned <= 2  # those of the jump's own moment
        task_pause(task_id=every.pk)
        times = list(every.runs.values_list("scheduled_for", flat=True))
        assert len(set(times)) == len(times)

        end.touch()
        for run in long:
            assert ended(run, started).status == "succeeded"
            assert run.attempt == 1
        assert len(diary.lines()) == 2
        assert ended(make_run(make_task(queue=started.queue)), started).exit_code == 0
        assert not TaskRun.objects.filter(status="lost").exists()
