"""C2, C5: one attempt at a time, one outcome a run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from django.db import connection

from tasks_app import ledger
from tasks_app.ledger import Claimant, Finish, Lease, LogChunk, LogCut
from tasks_app.models import RunEvent, RunLog, Task, TaskRun
from tests.factories import (
    ask,
    claim,
    claimant_of,
    end,
    heartbeat,
    make_run,
    make_task,
    make_worker,
    shift,
)
from workers_app.models import WorkerInfo

pytestmark = pytest.mark.django_db


def kinds(run: TaskRun) -> list[str]:
    return list(RunEvent.objects.filter(run=run).values_list("kind", flat=True))


class TestClaim:
    def test_it_starts_the_next_attempt_under_a_lease(self) -> None:
        run, worker = make_run(params={"day": "monday"}), make_worker()

        (claimed,) = ask(worker=worker)

        run.refresh_from_db()
        assert (run.status, run.attempt, run.worker_id) == ("running", 1, worker.pk)
        assert run.lease_expires_at
        assert run.lease_expires_at > ledger.database_now() + timedelta(seconds=25)
        assert claimed.definition["command"] == "true"
        assert claimed.params == {"day": "monday"}
        assert claimed.scheduled_for == run.scheduled_for

    def test_a_run_is_claimed_once(self) -> None:
        run = make_run()
        claim(run)
        assert ask() == []

    def test_a_run_that_is_not_due_is_not_claimed(self) -> None:
        run = make_run()
        shift(TaskRun, run.pk, -60, "due_at")
        assert ask() == []

    def test_a_run_past_its_start_deadline_is_not_claimed(self) -> None:
        run = make_run(make_task(start_deadline_seconds=10))
        shift(TaskRun, run.pk, 11, "start_deadline_at")
        assert ask() == []

    def test_a_cancelled_run_is_not_claimed(self) -> None:
        run = make_run()
        ledger.cancel([run.pk], "user:test")
        assert ask() == []

    def test_another_queues_run_is_not_claimed(self) -> None:
        make_run(make_task(queue="reports"))
        assert ask() == []
        assert ask(worker=make_worker(queues=["default", "reports"]))

    def test_the_best_come_first_and_no_more_than_asked_for(self) -> None:
        low, high = make_task(priority=1), make_task(priority=9)
        runs = [make_run(task) for task in (low, high, low, high)]
        order = [runs[1], runs[3], runs[0], runs[2]]
        assert [run.run_id for run in ask(3)] == [run.pk for run in order[:3]]
        assert [run.run_id for run in ask(3)] == [order[3].pk]

    def test_a_draining_worker_claims_nothing(self) -> None:
        run, worker = make_run(), make_worker()
        WorkerInfo.objects.filter(pk=worker.pk).update(is_draining=True)
        assert ask(worker=worker) == []
        assert claim(run).attempt == 1

    def test_a_run_keeps_the_definition_that_it_was_made_with(self) -> None:
        from tasks_app.services.tasks import task_update  # noqa: PLC0415

        run = make_run()
        task_update(task_id=run.task_id, values={"command": "false"})
        assert claim(run).definition["command"] == "true"

    def test_what_a_claimant_knows_of_a_version_is_what_is_stored(self) -> None:
        task = make_task(executor="python", payload={"kwargs": {"days": [1]}})
        runs = [make_run(task) for _ in range(3)]
        worker, known = make_worker(), ledger.Definitions()

        (first,) = ledger.claim(claimant_of(worker), 1, None, known)
        first.definition["payload"]["kwargs"]["days"].append(2)  # as a job may
        others = ledger.claim(claimant_of(worker), 2, None, known)

        stored = runs[0].version.definition
        assert [run.definition for run in others] == [stored, stored]

    def test_a_claimant_that_forgets_versions_is_told_of_them_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tasks_app.ledger.definitions.MAX_KNOWN", 2)
        tasks = [make_task(command=name) for name in ("true", "false", "date", "id")]
        worker, known = make_worker(), ledger.Definitions()

        for _ in range(2):
            for task in tasks:
                make_run(task)
            for limit in (1, 3):
                claimed = ledger.claim(claimant_of(worker), limit, None, known)
                assert len(claimed) == limit
                for run in claimed:
                    task = Task.objects.get(pk=run.task_id)
                    assert run.definition["command"] == task.command


class TestHeartbeat:
    def test_it_renews_the_leases_and_tells_that_the_worker_lives(self) -> None:
        run, worker = make_run(), make_worker()
        claimed = claim(run, worker)
        shift(TaskRun, run.pk, 20, "lease_expires_at")
        before = TaskRun.objects.get(pk=run.pk).lease_expires_at

        answer = heartbeat(worker, Lease(run.pk, claimed.attempt))

        run.refresh_from_db()
        assert before
        assert run.lease_expires_at
        assert run.lease_expires_at > before
        assert (answer.cancel, answer.gone) == (frozenset(), frozenset())
        worker.refresh_from_db()
        assert worker.current_tasks == 1

    def test_it_learns_of_a_cancel(self) -> None:
        run, worker = make_run(), make_worker()
        claim(run, worker)
        ledger.cancel([run.pk], "user:test")
        assert heartbeat(worker, Lease(run.pk, 1)).cancel == {run.pk}

    def test_it_learns_of_runs_that_are_no_longer_its_own(self) -> None:
        run, worker = make_run(), make_worker()
        claim(run, worker)
        assert heartbeat(worker, Lease(run.pk, 2)).gone == {run.pk}

    def test_a_worker_without_runs_still_beats(self) -> None:
        worker = make_worker()
        shift(type(worker), worker.pk, 100, "last_heartbeat")
        heartbeat(worker)
        worker.refresh_from_db()
        age = ledger.database_now() - worker.last_heartbeat
        assert age < timedelta(seconds=50)

    @pytest.mark.parametrize("is_at_work", [True, False])
    def test_it_learns_whether_to_drain(self, *, is_at_work: bool) -> None:
        worker = make_worker()
        claimed = [claim(make_run(), worker)] if is_at_work else []
        leases = [Lease(run.run_id, run.attempt) for run in claimed]
        assert not heartbeat(worker, *leases).is_draining

        WorkerInfo.objects.filter(pk=worker.pk).update(is_draining=True)

        answer = heartbeat(worker, *leases)
        assert answer.is_draining
        assert not answer.gone

    @pytest.mark.parametrize("runs", [0, 2])
    def test_it_is_one_statement(
        self, runs: int, django_assert_max_num_queries: Any
    ) -> None:
        worker = make_worker()
        claimed = [claim(make_run(), worker) for _ in range(runs)]
        leases = [Lease(run.run_id, run.attempt) for run in claimed]
        # SQLite writes in no CTE, and takes two in a savepoint or a transaction.
        most = 1 if connection.vendor == "postgresql" or not runs else 4
        with django_assert_max_num_queries(most):
            heartbeat(worker, *leases)

    def test_a_worker_whose_row_is_gone_keeps_its_leases(self) -> None:
        worker = make_worker()
        claimed = claim(make_run(), worker)
        WorkerInfo.objects.filter(pk=worker.pk).delete()

        answer = heartbeat(worker, Lease(claimed.run_id, claimed.attempt))

        assert not answer.gone
        assert not answer.is_draining


class TestFinish:
    @pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL")
    def test_ends_that_concern_nobody_else_are_one_statement(
        self, django_assert_num_queries: Any
    ) -> None:
        runs = [make_run() for _ in range(4)]
        for run in runs:
            claim(run)
        ledger.finish([Finish(runs.pop().pk, 1, "succeeded")])  # it may be prepared
        with django_assert_num_queries(1):
            ledger.finish([Finish(run.pk, 1, "succeeded") for run in runs])

    def test_it_stores_the_outcome(self) -> None:
        run = end(make_run(), "failed", exit_code=3, error="exit code 3", reason="x")
        assert (run.status, run.exit_code, run.error, run.reason) == (
            "failed",
            3,
            "exit code 3",
            "x",
        )
        assert run.completed_at
        assert run.lease_expires_at is None
        assert kinds(run) == ["created", "started", "finished"]

    @pytest.mark.parametrize("result", [None, {"a": [1, "ü"]}, "text", 0, [], False])
    def test_any_json_result_comes_back_as_it_was(self, result: object) -> None:
        assert end(make_run(), result=result).result == result

    def test_what_the_database_cannot_store_is_replaced(self) -> None:
        run = end(make_run(), error="a\0b", result={"x\0": "\ud800 \\u0000"})
        assert run.error == "a\ufffdb"
        assert run.result == {"x\ufffd": "? \\u0000"}

    def test_a_result_of_an_earlier_attempt_is_refused_and_kept_as_evidence(
        self,
    ) -> None:
        run = make_run(make_task(max_attempts=2, retry_initial_seconds=0))
        first = claim(run)
        shift(TaskRun, run.pk, 60, "lease_expires_at")
        ledger.reap()
        second = claim(run)
        assert (first.attempt, second.attempt) == (1, 2)

        accepted = ledger.finish([Finish(run.pk, first.attempt, "failed")])

        run.refresh_from_db()
        assert accepted == frozenset()
        assert (run.status, run.attempt) == ("running", 2)
        assert kinds(run)[-1] == "stale_result"

    def test_a_second_outcome_is_refused(self) -> None:
        run = end(make_run(), "succeeded")
        assert not ledger.finish([Finish(run.pk, 1, "failed")])
        run.refresh_from_db()
        assert run.status == "succeeded"
        assert kinds(run)[-1] == "stale_result"

    def test_the_same_outcome_told_twice_is_accepted_once(self) -> None:
        run = end(make_run(), "succeeded")
        assert ledger.finish([Finish(run.pk, 1, "succeeded")]) == {Lease(run.pk, 1)}
        assert kinds(run) == ["created", "started", "finished"]

    def test_a_retry_queues_the_next_attempt_for_later(self) -> None:
        run = make_run(make_task(max_attempts=3))
        end(run, "failed", retry_seconds=60.0)
        assert (run.status, run.attempt, run.completed_at) == ("queued", 1, None)
        assert run.due_at > ledger.database_now() + timedelta(seconds=50)
        assert ask() == []
        assert kinds(run)[-1] == "retried"
        shift(TaskRun, run.pk, 61, "due_at")
        assert claim(run).attempt == 2

    def test_a_run_whose_cancel_was_asked_for_is_not_retried(self) -> None:
        run = make_run(make_task(max_attempts=3))
        claim(run)
        ledger.cancel([run.pk], "user:test")
        ledger.finish([Finish(run.pk, 1, "failed", retry_seconds=0.0)])
        run.refresh_from_db()
        assert run.status == "failed"

    def test_many_ends_at_once_are_kept_apart(self) -> None:
        runs = [make_run() for _ in range(5)]
        for run in runs:
            claim(run)
        accepted = ledger.finish(
            [Finish(run.pk, 1, "failed", exit_code=run.pk % 1000) for run in runs]
        )
        assert len(accepted) == 5
        for run in runs:
            run.refresh_from_db()
            assert run.exit_code == run.pk % 1000


class TestLogs:
    def test_a_chunk_is_stored_once(self) -> None:
        run = make_run()
        chunk = LogChunk(run.pk, 1, 1, "stdout", "hello\n")
        ledger.append_logs([chunk, LogChunk(run.pk, 1, 2, "stderr", "oh\n")])
        ledger.append_logs([chunk])
        rows = RunLog.objects.filter(run=run).order_by("seq")
        assert [(row.stream, row.text) for row in rows] == [
            ("stdout", "hello\n"),
            ("stderr", "oh\n"),
        ]

    def test_a_cut_deletes_the_middle_and_says_how_much_it_was(self) -> None:
        run = make_run()
        texts = ["head", None, "old", "older", "tail"]
        ledger.append_logs(
            [
                LogChunk(run.pk, 1, seq, "stdout", text)
                for seq, text in enumerate(texts, 1)
                if text
            ]
        )
        ledger.cut_logs([LogCut(run.pk, 1, 2, 3, 3)])
        for _ in range(2):
            ledger.cut_logs([LogCut(run.pk, 1, 2, 4, 8)])
        rows = RunLog.objects.filter(run=run).order_by("seq")
        assert [(row.seq, row.text) for row in rows] == [
            (1, "head"),
            (2, "\n[8 bytes of output were cut here]\n"),
            (5, "tail"),
        ]


@pytest.mark.usefixtures("committed")
class TestManyClaimers:
    def test_twenty_claimers_of_the_same_runs_have_one_winner_each(self) -> None:
        runs = [make_run() for _ in range(10)]
        workers = [make_worker() for _ in range(20)]

        def claim_all(worker_id: int) -> list[int]:
            try:
                return [
                    run.run_id
                    for _ in runs
                    for run in ledger.claim(Claimant(worker_id, ("default",)), 1)
                ]
            finally:
                connection.close()

        with ThreadPoolExecutor(20) as pool:
            won = list(pool.map(claim_all, [worker.pk for worker in workers]))

        assert sorted(chain.from_iterable(won)) == sorted(run.pk for run in runs)
