"""Placement on real workers: tags, names, broadcasts, priorities, draining."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks_app.models import Alert, RunLog, TaskRun
from tests.factories import make_run, make_task
from tests.services import FAST, Platform, ended, platform, until
from workers_app.models import WorkerInfo


def is_online(name: str) -> bool:
    return WorkerInfo.objects.alive().filter(name=name).exists()


def ran_on(run: TaskRun, running: Platform) -> str:
    """The worker that has run it."""
    ended(run, running)
    assert run.status == "succeeded"
    assert run.worker
    return run.worker.name


def output_of(run: TaskRun) -> str:
    return "".join(RunLog.objects.filter(run=run).values_list("text", flat=True))


@pytest.fixture(scope="module")
def fleet(
    database: None, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """A beat, and three workers: a (gpu), b (gpu and spot), c (no tags)."""
    with platform(broker_url, tmp_path_factory.mktemp("logs"), **FAST) as started:
        started.beat()
        started.worker("a", WORKER_TAGS="gpu")
        started.worker("b", WORKER_TAGS="gpu,spot")
        started.worker("c")
        until(lambda: all(is_online(name) for name in "abc"), started)
        yield started


class TestFleet:
    def test_tags_decide_where_a_run_goes(self, fleet: Platform) -> None:
        expected = {"gpu and not spot": "a", "spot": "b", "not gpu": "c"}
        runs = {
            match: make_run(make_task(queue=fleet.queue, match=match))
            for match in expected
        }
        assert {match: ran_on(run, fleet) for match, run in runs.items()} == expected

    def test_a_named_worker_gets_its_runs(self, fleet: Platform) -> None:
        task = make_task(queue=fleet.queue, placement="worker", worker_name="b")
        assert {ran_on(make_run(task), fleet) for _ in range(3)} == {"b"}

    def test_a_task_stays_on_the_worker_that_it_ran_on(self, fleet: Platform) -> None:
        task = make_task(queue=fleet.queue, placement="same_worker")
        first = ran_on(make_run(task), fleet)
        assert {ran_on(make_run(task), fleet) for _ in range(3)} == {first}

    def test_the_least_loaded_gets_it(self, fleet: Platform, tmp_path: Path) -> None:
        done = tmp_path / "done"
        blocked = [
            make_run(
                make_task(
                    queue=fleet.queue,
                    placement="worker",
                    worker_name=name,
                    command=f"while ! test -e {done}; do sleep 0.05; done",
                )
            )
            for name in "ab"
        ]
        running = TaskRun.objects.filter(
            pk__in=[run.pk for run in blocked], status="running"
        )
        until(lambda: running.count() == 2, fleet)
        task = make_task(queue=fleet.queue, placement="least_loaded")
        assert ran_on(make_run(task), fleet) == "c"
        done.touch()
        for run in blocked:
            ended(run, fleet)

    def test_a_broadcast_runs_once_on_each_with_its_share(
        self, fleet: Platform
    ) -> None:
        task = make_task(
            queue=fleet.queue,
            placement="broadcast",
            command='echo "$GNOMON_SHARD_INDEX of $GNOMON_SHARD_TOTAL"',
        )
        make_run(task)
        until(lambda: task.runs.filter(status="succeeded").count() == 3, fleet)
        runs = task.runs.order_by("shard_index").select_related("worker")
        assert [(run.worker.name, output_of(run)) for run in runs if run.worker] == [
            ("a", "0 of 3\n"),
            ("b", "1 of 3\n"),
            ("c", "2 of 3\n"),
        ]

    def test_what_no_worker_can_take_raises_an_alert_until_one_comes(
        self, fleet: Platform
    ) -> None:
        task = make_task(queue=fleet.queue, match="tpu")
        run = make_run(task)
        alerts = Alert.objects.filter(kind="no_worker", task=task)
        until(alerts.open().exists, fleet)
        message = alerts.get().message
        assert message.startswith(f"{task.name}: no online worker can take it")
        assert "c: its tags do not fit: the run needs tpu" in message
        fleet.worker("late", WORKER_TAGS="tpu")
        assert ran_on(run, fleet) == "late"
        until(lambda: not alerts.open().exists(), fleet)


class TestDrain:
    def test_a_drained_worker_claims_nothing_and_finishes_what_it_has(
        self, database: None, broker_url: str, tmp_path: Path
    ) -> None:
        with platform(broker_url, tmp_path, **FAST) as running:
            running.worker("old")
            until(lambda: is_online("old"), running)
            done = tmp_path / "done"
            wait = f"while ! test -e {done}; do sleep 0.05; done"
            held = make_run(make_task(queue=running.queue, command=wait))
            until(lambda: TaskRun.objects.get(pk=held.pk).status == "running", running)
            drain = _drain(running, "old", "--wait")
            until(lambda: "worker.told_to_drain" in running.logs(), running)
            later = make_run(make_task(queue=running.queue))
            running.worker("new")
            assert ran_on(later, running) == "new"
            assert drain.poll() is None
            done.touch()
            assert drain.wait(30) == 0, running.logs()
            assert ran_on(held, running) == "old"
            said = Path(running.folder, "drain.txt").read_text().splitlines()
            assert [line for line in said if not line.startswith("{")] == [
                "old drains: 1 run left",
                "old: 0 runs left",
                "old is at rest",
            ]
            until(lambda: '"worker.drained"' in running.logs(), running)
            assert _drain(running, "old", "--undo").wait(30) == 0
            named = make_task(
                queue=running.queue, placement="worker", worker_name="old"
            )
            assert ran_on(make_run(named), running) == "old"


class TestPriority:
    def test_the_highest_starts_first_then_the_longest_due(
        self, database: None, broker_url: str, tmp_path: Path
    ) -> None:
        """The same order whatever the broker: the ledger decides it."""
        with platform(broker_url, tmp_path, **FAST) as running:
            runs = []
            for priority in (3, 9, 0, 5, 9, 3):
                for match in ("", "gpu"):
                    task = make_task(
                        queue=running.queue, priority=priority, match=match
                    )
                    runs.append(make_run(task))
            running.worker("one", WORKER_CONCURRENCY="1", WORKER_TAGS="gpu")
            for run in runs:
                ended(run, running)
            started = sorted(runs, key=_started)
            due = sorted(runs, key=lambda run: (-run.priority, run.due_at, run.pk))
            assert [run.pk for run in started] == [run.pk for run in due]


def _started(run: TaskRun) -> Any:
    return run.started_at


def _drain(running: Platform, *arguments: str) -> subprocess.Popen[bytes]:
    """`manage.py drain`, what it says in drain.txt."""
    process = running.start("manage.py", "drain", *arguments)
    said = running.folder / f"{len(running.processes) - 1}-{arguments[-1]}.log"
    (running.folder / "drain.txt").unlink(missing_ok=True)
    (running.folder / "drain.txt").symlink_to(said)
    return process
