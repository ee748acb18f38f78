"""The main job on real processes: define a task, let it fire, see how it ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from kombu import Connection, Queue

from tasks_app import ledger
from tasks_app.models import RunLog, TaskRun
from tasks_app.services.runs import run_cancel
from tasks_app.services.tasks import task_delete
from tests.executors.harness import is_alive
from tests.factories import make_run, make_task
from tests.services import FAST, Platform, ended, platform, until
from workers_app.models import WorkerInfo
from workers_app.tasks import doorbell


def is_online(name: str) -> bool:
    return WorkerInfo.objects.alive().filter(name=name).exists()


@pytest.fixture(scope="module")
def running(
    database: None, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """Two beats and a worker."""
    with platform(broker_url, tmp_path_factory.mktemp("logs"), **FAST) as started:
        started.beat()
        started.beat()
        started.worker("main-worker")
        until(lambda: is_online("main-worker"), started)
        yield started


class Unpickled:
    """Makes a file wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


class TestMainJob:
    def test_a_triggered_run_is_executed_and_its_output_is_kept(
        self, running: Platform
    ) -> None:
        task = make_task(
            queue=running.queue, command='echo "hello $PARAM_NAME"; echo oh >&2'
        )
        run = ended(make_run(task, params={"name": "world"}), running)
        assert (run.status, run.exit_code, run.attempt) == ("succeeded", 0, 1)
        assert run.worker
        assert run.worker.name == "main-worker"
        texts = {(row.stream, row.text) for row in RunLog.objects.filter(run=run)}
        assert texts == {("stdout", "hello world\n"), ("stderr", "oh\n")}

    def test_every_second_fires_once_with_two_beats(self, running: Platform) -> None:
        task = make_task(queue=running.queue, interval_seconds=1)
        until(lambda: task.runs.filter(status="succeeded").count() >= 4, running)
        task_delete(task_id=task.pk, actor="test")
        times = sorted(task.runs.values_list("scheduled_for", flat=True))
        gaps = {later - at for at, later in pairwise(times)}
        assert gaps == {timedelta(seconds=1)}

    def test_a_one_off_fires_at_its_time(self, running: Platform) -> None:
        at = ledger.database_now() + timedelta(seconds=1)
        task = make_task(queue=running.queue, at=at)
        until(lambda: task.runs.exists(), running)
        run = ended(task.runs.get(), running)
        assert run.started_at
        assert run.scheduled_for == at
        assert run.started_at >= at

    def test_a_pipeline_runs_in_order(self, running: Platform) -> None:
        first = make_task(queue=running.queue, command="echo one")
        second = make_task(first, queue=running.queue, command="echo two")
        root = ended(make_run(first), running)
        until(lambda: TaskRun.objects.filter(task=second, root=root).exists(), running)
        child = ended(TaskRun.objects.get(task=second, root=root), running)
        assert child.status == "succeeded"
        assert child.started_at
        assert root.completed_at
        assert child.started_at >= root.completed_at

    def test_a_task_that_fails_twice_succeeds_at_the_third_attempt(
        self, running: Platform
    ) -> None:
        task = make_task(
            queue=running.queue,
            command='test "$GNOMON_ATTEMPT" -ge 3',
            max_attempts=3,
            retry_initial_seconds=1,
            retry_max_seconds=1,
        )
        run = ended(make_run(task), running)
        assert (run.status, run.attempt) == ("succeeded", 3)
        assert run.events.filter(kind="retried").count() == 2

    def test_a_task_is_killed_at_its_timeout(
        self, running: Platform, tmp_path: Path
    ) -> None:
        pid_file = tmp_path / "pid"
        task = make_task(
            queue=running.queue,
            command=f"echo $$ > {pid_file}; sleep 60",
            timeout_seconds=1,
        )
        run = ended(make_run(task), running)
        assert (run.status, run.reason) == ("timed_out", "timeout")
        assert not is_alive(int(pid_file.read_text()))

    def test_a_running_run_is_cancelled(
        self, running: Platform, tmp_path: Path
    ) -> None:
        pid_file = tmp_path / "pid"
        task = make_task(queue=running.queue, command=f"echo $$ > {pid_file}; sleep 60")
        run = make_run(task)
        until(lambda: pid_file.exists() and pid_file.read_text(), running)
        run_cancel(run_id=run.pk, actor="user:test")
        ended(run, running)
        assert run.status == "cancelled"
        assert not is_alive(int(pid_file.read_text()))

    def test_a_lost_doorbell_costs_no_more_than_the_workers_next_look(
        self, running: Platform
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tasks_app.ledger.creating.announce", lambda _bells: None)
            run = make_run(make_task(queue=running.queue))
        assert ended(run, running).status == "succeeded"

    def test_doubled_doorbells_run_nothing_twice(self, running: Platform) -> None:
        run = make_run(make_task(queue=running.queue, command="sleep 0.3"))
        with Connection(running.broker_url) as broker:
            for _ in range(5):
                options: dict[str, Any] = {"connection": broker}
                doorbell.apply_async(
                    kwargs={"runs": 20}, queue=running.queue, **options
                )
        ended(run, running)
        assert (run.status, run.attempt) == ("succeeded", 1)
        assert run.events.filter(kind="started").count() == 1

    def test_forged_messages_run_nothing_and_the_worker_lives(
        self, running: Platform, tmp_path: Path
    ) -> None:
        bystander = make_run(make_task(queue="elsewhere"))
        forged: list[tuple[str, Any]] = [
            ("gnomon.doorbell", {"runs": "all"}),
            ("gnomon.doorbell", {"runs": [{}]}),
            ("gnomon.doorbell", {"runs": -1}),
            ("gnomon.doorbell", {"runs": 10**30}),
            ("gnomon.doorbell", {"run_ids": [bystander.pk]}),
            ("gnomon.doorbell", {"command": "rm -rf /"}),
            ("os.system", {"command": "true"}),
            ("celery.accumulate", {}),
        ]
        with Connection(running.broker_url) as broker:
            options: dict[str, Any] = {"connection": broker}
            for name, kwargs in forged:
                current_app.send_task(name, (), kwargs, queue=running.queue, **options)
            current_app.send_task(
                "gnomon.doorbell",
                (),
                {"runs": Unpickled(tmp_path / "code-was-run")},
                queue=running.queue,
                serializer="pickle",
                **options,
            )
            with broker.Producer() as producer:
                for body in ({"x": object}, {"x": b"not a task"}):
                    producer.publish(
                        body, routing_key=running.queue, serializer="pickle"
                    )
        run = ended(make_run(make_task(queue=running.queue)), running)
        assert run.status == "succeeded"
        bystander.refresh_from_db()
        assert bystander.status == "queued"
        assert not (tmp_path / "code-was-run").exists()

    def test_a_stock_beat_entry_is_sent_once_a_period(self, running: Platform) -> None:
        every, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
        queue_name = f"{running.queue}-stock"
        with Connection(running.broker_url) as broker, broker.channel() as channel:
            queue = Queue(queue_name, routing_key=queue_name, channel=channel)
            queue.declare()
            row = PeriodicTask.objects.create(
                name=queue_name, task="others.task", interval=every, queue=queue_name
            )
            sent_at: list[float] = []

            def receive() -> bool:
                if message := queue.get():
                    message.ack()
                    sent_at.append(time.monotonic())
                return len(sent_at) >= 4

            until(receive, running)
            row.delete()
            queue.delete()
        assert sent_at[3] - sent_at[0] > 2.5  # two beats, each sending, would take 1

    def test_dropped_database_connections_cost_nothing(self, running: Platform) -> None:
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has no connections to drop")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        run = ended(make_run(make_task(queue=running.queue)), running)
        assert run.status == "succeeded"


class TestWorkers:
    @pytest.fixture
    def alone(
        self, database: None, broker_url: str, tmp_path: Path
    ) -> Iterator[Platform]:
        """A beat, and workers that the test starts and kills."""
        with platform(broker_url, tmp_path, **FAST) as started:
            started.beat()
            yield started

    def test_celerys_own_command_line_starts_the_same_worker(
        self, alone: Platform
    ) -> None:
        alone.stock_worker("by-celery@test")
        run = ended(make_run(make_task(queue=alone.queue)), alone)
        assert run.status == "succeeded"
        assert run.worker
        assert run.worker.name == "by-celery@test"

    def test_a_terminated_worker_finishes_what_it_has(
        self, alone: Platform, tmp_path: Path
    ) -> None:
        worker = alone.worker("draining")
        started = tmp_path / "started"
        task = make_task(queue=alone.queue, command=f"touch {started}; sleep 1.5")
        run = make_run(task)
        until(started.exists, alone)
        worker.terminate()
        assert worker.wait(20) == 0, alone.logs()
        run.refresh_from_db()
        assert run.status == "succeeded"
        assert not is_online("draining")

    def test_a_worker_that_drains_can_still_be_told_to_quit(
        self, alone: Platform, tmp_path: Path
    ) -> None:
        worker = alone.worker("impatient")
        started = tmp_path / "started"
        task = make_task(queue=alone.queue, command=f"touch {started}; sleep 60")
        run = make_run(task)
        until(started.exists, alone)
        worker.terminate()
        until(lambda: "worker.draining" in alone.logs(), alone)
        worker.send_signal(signal.SIGQUIT)
        worker.wait(20)
        run.refresh_from_db()
        assert (run.status, run.reason) == ("failed", "worker_shutdown"), alone.logs()

    def test_a_worker_that_is_told_to_quit_stops_its_jobs_and_says_so(
        self, alone: Platform, tmp_path: Path
    ) -> None:
        worker = alone.worker("quitting")
        pid_file = tmp_path / "pid"
        task = make_task(queue=alone.queue, command=f"echo $$ > {pid_file}; sleep 60")
        run = make_run(task)
        until(lambda: pid_file.exists() and pid_file.read_text(), alone)
        worker.send_signal(signal.SIGQUIT)
        worker.wait(20)
        run.refresh_from_db()
        assert (run.status, run.reason) == ("failed", "worker_shutdown"), alone.logs()
        assert not is_alive(int(pid_file.read_text()))

    def test_the_runs_of_a_killed_worker_are_lost_or_repeated(
        self, alone: Platform, tmp_path: Path
    ) -> None:
        worker = alone.worker("victim")
        once = make_run(
            make_task(queue=alone.queue, command=f"touch {tmp_path}/a; sleep 60")
        )
        twice = make_run(
            make_task(
                queue=alone.queue,
                command=f"touch {tmp_path}/b; test $GNOMON_ATTEMPT = 2 || sleep 60",
                max_attempts=2,
                retry_initial_seconds=0,
            )
        )
        until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists(), alone)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        alone.worker("heir")
        assert ended(once, alone).status == "lost"
        assert ended(twice, alone).status == "succeeded"
        assert twice.attempt == 2
        until(lambda: not is_online("victim"), alone)
