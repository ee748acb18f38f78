"""Workflows: children are created with their parent's end, once under one root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks_app import ledger
from tasks_app.ledger import CancelAnswer, Finish
from tasks_app.models import Project, Task, TaskRun
from tasks_app.rules.params import MAX_VALUE_BYTES, param_text
from tasks_app.services.runs import run_cancel, run_rerun, run_rerun_failed
from tasks_app.services.tasks import ParentInput, task_pause, task_update
from tests.factories import ask, claim, end, make_run, make_task, make_worker, shift


def runs_of(task: Task, root: TaskRun) -> list[TaskRun]:
    found = TaskRun.objects.filter(task=task, root=root)
    return list(found.order_by("shard_index"))


def run_of(task: Task, root: TaskRun) -> TaskRun:
    (run,) = runs_of(task, root)
    return run


def status_of(task: Task, root: TaskRun) -> str | None:
    return next((run.status for run in runs_of(task, root)), None)


def start(*runs: TaskRun) -> None:
    """Claim all that waits, these runs among it."""
    ask(1000)
    for run in runs:
        run.refresh_from_db()
        assert run.status == "running"


def finish(run: TaskRun, status: str = "succeeded", **values: Any) -> TaskRun:
    """Claim a run unless it runs already, and finish it."""
    run.refresh_from_db()
    if run.status == "queued":
        start(run)
    ledger.finish([Finish(run.pk, run.attempt, status, **values)])
    run.refresh_from_db()
    assert run.status == status
    return run


@pytest.mark.django_db
class TestChains:
    @pytest.mark.parametrize(
        ("rule", "ending", "child"),
        [
            ("all_success", "succeeded", "queued"),
            ("all_success", "failed", "skipped"),
            ("all_success", "cancelled", "skipped"),
            ("any_success", "succeeded", "queued"),
            ("any_success", "timed_out", "skipped"),
            ("all_failed", "failed", "queued"),
            ("all_failed", "timed_out", "queued"),
            ("all_failed", "succeeded", "skipped"),
            ("all_failed", "cancelled", "skipped"),
            ("all_done", "succeeded", "queued"),
            ("all_done", "failed", "queued"),
            ("all_done", "cancelled", "queued"),
        ],
    )
    def test_the_trigger_rule_decides(self, rule: str, ending: str, child: str) -> None:
        parent = make_task()
        task = make_task(parent, trigger_rule=rule)
        root = end(make_run(parent), ending)
        assert status_of(task, root) == child

    def test_a_child_knows_its_root_and_its_parent(self) -> None:
        first = make_task()
        second = make_task(first)
        third = make_task(second)
        root = end(make_run(first))
        middle = end(run_of(second, root))
        last = run_of(third, root)
        assert (last.root_id, last.parent_id) == (root.pk, middle.pk)
        assert last.scheduled_for == root.scheduled_for
        assert last.trigger == "dependency"

    def test_a_retry_starts_no_children(self) -> None:
        parent = make_task(max_attempts=2)
        task = make_task(parent, trigger_rule="all_done")
        root = end(make_run(parent), "failed", retry_seconds=0.0)
        assert runs_of(task, root) == []

    def test_a_skip_is_handed_on_with_its_reason(self) -> None:
        first = make_task(name="extract")
        second = make_task(first)
        third = make_task(second)
        root = end(make_run(first), "failed")
        assert run_of(second, root).status == "skipped"
        assert "extract" in run_of(second, root).reason
        assert status_of(third, root) == "skipped"

    def test_a_paused_child_is_skipped_with_the_reason(self) -> None:
        parent = make_task()
        task = make_task(parent)
        task_pause(task_id=task.pk)
        root = end(make_run(parent))
        run = run_of(task, root)
        assert (run.status, run.reason) == ("skipped", "the task is paused")

    def test_a_child_that_its_policy_skips_is_an_end_of_its_own(self) -> None:
        parent = make_task()
        child = make_task(parent, overlap="skip")
        grandchild = make_task(child, trigger_rule="all_done")
        make_run(child)
        root = finish(make_run(parent))
        assert status_of(child, root) == "skipped"
        assert status_of(grandchild, root) == "queued"

    def test_a_lost_run_has_children_too(self) -> None:
        parent = make_task()
        task = make_task(parent, trigger_rule="all_failed")
        root = make_run(parent)
        claim(root)
        shift(TaskRun, root.pk, 60, "lease_expires_at")
        ledger.reap()
        assert status_of(task, root) == "queued"

    def test_a_batch_costs_as_many_statements_as_a_single_end(self) -> None:
        parent = make_task()
        make_task(parent)

        def statements(count: int) -> int:
            runs = [make_run(parent) for _ in range(count)]
            start(*runs)
            finishes = [Finish(run.pk, 1, "succeeded", result=1) for run in runs]
            with CaptureQueriesContext(connection) as queries:
                ledger.finish(finishes)
            return len(queries)

        assert statements(1) == statements(50) <= 20


@pytest.mark.django_db
class TestJoins:
    def fork(self, **join: Any) -> tuple[TaskRun, TaskRun, TaskRun, Task]:
        """A root that has ended, its two running children, and their join."""
        first = make_task()
        left, right = make_task(first, name="left"), make_task(first, name="right")
        task = make_task(left, right, **join)
        root = end(make_run(first))
        runs = run_of(left, root), run_of(right, root)
        start(*runs)
        return root, *runs, task

    def test_a_join_waits_for_all_parents_of_its_root(self) -> None:
        root, left, right, join = self.fork()
        finish(left)
        assert runs_of(join, root) == []
        finish(right)
        assert status_of(join, root) == "queued"

    def test_any_success_starts_at_the_first_and_only_once(self) -> None:
        root, left, right, join = self.fork(trigger_rule="any_success")
        finish(left)
        run = run_of(join, root)
        assert (run.status, run.parent_id) == ("queued", left.pk)
        finish(right)
        assert [each.pk for each in runs_of(join, root)] == [run.pk]

    def test_a_later_success_does_not_replace_the_child_that_runs(self) -> None:
        root, left, right, join = self.fork(
            trigger_rule="any_success", overlap="replace", max_concurrency=1
        )
        finish(left)
        start(run_of(join, root))
        finish(right)
        run = run_of(join, root)
        assert (run.status, run.cancel_requested_at) == ("running", None)

    def test_parents_that_end_in_one_batch_start_their_join(self) -> None:
        root, left, right, join = self.fork(trigger_rule="any_success")
        ledger.finish([Finish(left.pk, 1, "succeeded"), Finish(right.pk, 1, "failed")])
        run = run_of(join, root)
        assert (run.status, run.parent_id) == ("queued", left.pk)

    def test_a_parent_outside_of_the_workflow_is_not_waited_for(self) -> None:
        first, stranger = make_task(), make_task()
        join = make_task(first, stranger)
        root = end(make_run(first))
        assert status_of(join, root) == "queued"

    def test_a_parent_that_is_yet_to_be_created_is_waited_for(self) -> None:
        first = make_task()
        second = make_task(first)
        third = make_task(second)
        join = make_task(first, third)
        root = end(make_run(first))
        assert runs_of(join, root) == []
        end(run_of(second, root))
        assert runs_of(join, root) == []
        end(run_of(third, root))
        assert status_of(join, root) == "queued"

    def test_a_parent_added_too_late_to_run_is_not_waited_for(self) -> None:
        root, left, right, join = self.fork()
        late = make_task(Task.objects.get(pk=root.task_id))
        task_update(
            task_id=join.pk,
            values={},
            parents=[
                ParentInput(task_id)
                for task_id in (left.task_id, right.task_id, late.pk)
            ],
        )
        finish(left)
        finish(right)
        assert status_of(join, root) == "queued"

    def test_two_roots_do_not_mix(self) -> None:
        first = make_task()
        left, right = make_task(first), make_task(first)
        join = make_task(left, right)
        one, two = end(make_run(first)), finish(make_run(first))
        finish(run_of(left, one))
        finish(run_of(right, two))
        assert runs_of(join, one) == runs_of(join, two) == []


@pytest.mark.django_db
class TestBroadcasts:
    @pytest.fixture(autouse=True)
    def workers(self) -> None:
        """Two that serve the queue `wide`."""
        for name in "ab":
            make_worker(name, queues=["wide"])

    def finish_each(self, runs: Sequence[TaskRun], *statuses: str) -> None:
        for run, status in zip(runs, statuses, strict=True):
            name = run.lane.removeprefix("worker:")
            ask(10, make_worker(name, queues=["wide"]))
            ledger.finish([Finish(run.pk, 1, status, result=f"on {name}")])

    @pytest.mark.parametrize(
        ("statuses", "child"),
        [
            (("succeeded", "succeeded"), "queued"),
            (("failed", "succeeded"), "skipped"),
        ],
    )
    def test_the_child_of_a_broadcast_waits_for_every_worker(
        self, statuses: tuple[str, str], child: str
    ) -> None:
        first = make_task()
        everywhere = make_task(first, placement="broadcast", queue="wide")
        last = make_task(everywhere)
        root = finish(make_run(first))
        shards = runs_of(everywhere, root)
        assert [run.shard_index for run in shards] == [0, 1]
        self.finish_each(shards[:1], statuses[0])
        assert runs_of(last, root) == []
        self.finish_each(shards[1:], statuses[1])
        assert status_of(last, root) == child

    def test_a_broadcast_root_is_one_workflow(self) -> None:
        everywhere = make_task(placement="broadcast", queue="wide", name="everywhere")
        last = make_task(everywhere)
        root = make_run(everywhere)
        (other,) = runs_of(everywhere, root)
        assert (root.shard_index, other.shard_index) == (0, 1)
        self.finish_each([root, other], "succeeded", "succeeded")
        results = run_of(last, root).params["parent_results"]
        assert results == {"everywhere": ["on a", "on b"]}


@pytest.mark.django_db
class TestResults:
    def test_a_child_is_given_its_parents_results_and_the_workflows_params(
        self,
    ) -> None:
        first = make_task(name="first")
        left, right = make_task(first, name="left"), make_task(first, name="right")
        join = make_task(left, right, trigger_rule="all_done")
        root = end(make_run(first, params={"day": "monday"}), result={"rows": 7})
        assert run_of(left, root).params == {
            "day": "monday",
            "parent_results": {"first": {"rows": 7}},
        }
        finish(run_of(left, root), result=[1, "zwei"])
        finish(run_of(right, root), "failed")
        assert run_of(join, root).params == {
            "day": "monday",
            "parent_results": {"left": [1, "zwei"], "right": None},
        }

    def test_parents_of_other_projects_are_named_with_theirs(self) -> None:
        first = make_task(name="load")
        other = Project.objects.create(name="other")
        second = make_task(first, name="load", project=other)
        third = make_task(first, second)
        root = end(make_run(first), result=1)
        finish(run_of(second, root), result=2)
        results = run_of(third, root).params["parent_results"]
        assert results == {"load": 1, "other/load": 2}

    def test_a_skipped_child_is_given_no_results_and_gives_none(self) -> None:
        first = make_task()
        second = make_task(first, trigger_rule="all_failed")
        third = make_task(second, trigger_rule="all_done")
        root = end(make_run(first, params={"day": "monday"}), result=1)
        assert run_of(second, root).params == {"day": "monday"}
        assert run_of(third, root).params == {"day": "monday", "parent_results": {}}

    def test_a_result_of_over_64_kib_is_omitted_with_its_size(self) -> None:
        first = make_task(name="first")
        second = make_task(first)
        root = end(make_run(first), result="x" * 65_536)
        assert run_of(second, root).params == {
            "parent_results": {"first": {"omitted_bytes": 65_538}}
        }

    def test_results_that_are_too_large_together_are_cut_to_fit(self) -> None:
        first = make_task()
        parents = [make_task(first, name=name) for name in "abc"]
        join = make_task(*parents)
        root = end(make_run(first))
        for size, parent in zip((40_000, 50_000, 60_000), parents, strict=True):
            finish(run_of(parent, root), result="ü" * (size // 2))
        results = run_of(join, root).params["parent_results"]
        assert len(results["a"]) == 20_000
        assert len(results["b"]) == 25_000
        assert results["c"] == {"omitted_bytes": 60_002}
        assert len(param_text(results).encode()) <= MAX_VALUE_BYTES

    def test_a_rerun_keeps_what_the_run_was_given(self) -> None:
        first = make_task(name="first")
        second = make_task(first, name="second")
        third = make_task(second)
        root = end(make_run(first), result=1)
        again = run_rerun(run=end(run_of(second, root), "failed"), actor="user:ann")
        assert again.params == {"parent_results": {"first": 1}}
        finish(again, result=2)
        assert run_of(third, again).params == {"parent_results": {"second": 2}}


@pytest.mark.django_db
class TestCancel:
    def fork(self) -> tuple[TaskRun, TaskRun, TaskRun, Task]:
        """A root that has ended; below it one that runs and one that waits; and what
        comes after both, whatever their ends."""
        first = make_task()
        left, right = make_task(first), make_task(first)
        last = make_task(left, right, trigger_rule="all_done")
        root = end(make_run(first))
        runs = run_of(left, root), run_of(right, root)
        claim(runs[0])
        return root, *runs, last

    def test_cancel_of_a_root_skips_what_waits_for_it_whatever_the_rule(self) -> None:
        parent = make_task()
        task = make_task(parent, trigger_rule="all_done")
        root = make_run(parent)
        ledger.cancel([root.pk], "user:test")
        run = run_of(task, root)
        assert (run.status, run.reason) == ("skipped", "the workflow was cancelled")

    def test_cancel_of_an_ended_root_cancels_what_lives_below(self) -> None:
        root, running, waiting, last = self.fork()
        assert run_cancel(run_id=root.pk, actor="user:ann") == {
            running.pk: CancelAnswer.REQUESTED,
            waiting.pk: CancelAnswer.CANCELLED,
        }
        root.refresh_from_db()
        assert root.status == "succeeded"
        finish(running, "cancelled")
        run = run_of(last, root)
        assert (run.status, run.reason) == ("skipped", "the workflow was cancelled")

    def test_a_cancelled_workflow_starts_nothing_even_where_completion_won(
        self,
    ) -> None:
        parent = make_task()
        task = make_task(parent)
        root = make_run(parent)
        claim(root)
        ledger.cancel([root.pk], "user:test")
        finish(root)
        assert status_of(task, root) == "skipped"

    def test_cancel_of_another_run_concerns_that_one_alone(self) -> None:
        root, running, waiting, last = self.fork()
        assert ledger.cancel([waiting.pk], "user:ann") == {
            waiting.pk: CancelAnswer.CANCELLED
        }
        running.refresh_from_db()
        assert running.cancel_requested_at is None
        finish(running)
        assert status_of(last, root) == "queued"

    def test_a_workflow_without_live_runs_cannot_be_cancelled(self) -> None:
        root, running, waiting, last = self.fork()
        for run in (running, waiting):
            finish(run)
        finish(run_of(last, root))
        assert ledger.cancel([root.pk], "user:ann") == {}
        root.refresh_from_db()
        assert root.cancel_requested_at is None


@pytest.mark.django_db
class TestReruns:
    def diamond(self) -> tuple[dict[str, Task], TaskRun]:
        """start -> a -> c, start -> b, c and b -> join; a and b have failed."""
        first = make_task(name="start")
        tasks = {name: make_task(first, name=name) for name in "ab"}
        tasks["c"] = make_task(tasks["a"], name="c")
        tasks["join"] = make_task(tasks["c"], tasks["b"], name="join")
        root = end(make_run(first), result=0)
        return tasks, root

    def test_a_rerun_runs_what_is_below_it_again(self) -> None:
        tasks, root = self.diamond()
        finish(run_of(tasks["b"], root), result="b1")
        failed = finish(run_of(tasks["a"], root), "failed")
        assert status_of(tasks["join"], root) == "skipped"
        again = finish(run_rerun(run=failed, actor="user:ann"))
        finish(run_of(tasks["c"], again), result="c2")
        join = run_of(tasks["join"], again)
        assert join.status == "queued"
        # b is outside of what runs again: its last run counts.
        assert join.params["parent_results"] == {"c": "c2", "b": "b1"}

    def test_reruns_one_after_the_other_add_up(self) -> None:
        tasks, root = self.diamond()
        a = finish(run_of(tasks["a"], root), "failed")
        b = finish(run_of(tasks["b"], root), "failed")
        a_again = finish(run_rerun(run=a, actor="user:ann"))
        finish(run_of(tasks["c"], a_again), result="c2")
        skipped = run_of(tasks["join"], a_again)
        assert skipped.status == "skipped"
        assert "parent 'b' ended failed" in skipped.reason
        b_again = finish(run_rerun(run=b, actor="user:ann"), "failed")
        assert status_of(tasks["join"], b_again) == "skipped"
        b_third = finish(run_rerun(run=b_again, actor="user:ann"), result="b3")
        join = run_of(tasks["join"], b_third)
        assert join.status == "queued"
        assert join.params["parent_results"] == {"c": "c2", "b": "b3"}

    def test_a_rerun_of_the_whole_is_another_workflow(self) -> None:
        tasks, root = self.diamond()
        a = finish(run_of(tasks["a"], root), "failed")
        finish(run_of(tasks["b"], root), result="b1")
        whole = finish(run_rerun(run=root, actor="user:ann"))
        finish(run_of(tasks["b"], whole), "failed")
        again = finish(run_rerun(run=a, actor="user:ann"))
        finish(run_of(tasks["c"], again))
        join = run_of(tasks["join"], again)
        assert join.params["parent_results"] == {"c": None, "b": "b1"}

    def test_a_rerun_does_not_wait_for_the_workflow_it_came_from(self) -> None:
        tasks, root = self.diamond()
        a = finish(run_of(tasks["a"], root), "failed")
        again = finish(run_rerun(run=a, actor="user:ann"))
        finish(run_of(tasks["c"], again))
        join = run_of(tasks["join"], again)
        assert join.status == "skipped"
        assert "'b' is running in the workflow that this one repeats" in join.reason

    def test_from_failed_is_one_workflow_and_its_join_runs_once(self) -> None:
        tasks, root = self.diamond()
        finish(run_of(tasks["a"], root), "failed")
        finish(run_of(tasks["b"], root), "timed_out")
        a_again = run_rerun_failed(run=root, actor="user:ann")
        b_again = run_of(tasks["b"], a_again)
        assert (a_again.task_id, a_again.root_id) == (tasks["a"].pk, None)
        assert {a_again.trigger, b_again.trigger} == {"rerun"}
        start(a_again, b_again)
        finish(b_again, result="b2")
        assert runs_of(tasks["join"], a_again) == []
        finish(a_again)
        finish(run_of(tasks["c"], a_again), result="c2")
        join = run_of(tasks["join"], a_again)
        assert join.status == "queued"
        assert join.params["parent_results"] == {"c": "c2", "b": "b2"}

    def test_from_failed_starts_at_the_topmost_only(self) -> None:
        first = make_task()
        second = make_task(first)
        third = make_task(second, trigger_rule="all_failed")
        root = end(make_run(first))
        finish(run_of(second, root), "lost")
        finish(run_of(third, root), "failed")
        again = run_rerun_failed(run=root, actor="user:ann")
        assert again.task_id == second.pk
        assert not TaskRun.objects.filter(root=again).exists()

    def test_cancel_of_the_new_root_stops_those_beside_it(self) -> None:
        tasks, root = self.diamond()
        finish(run_of(tasks["a"], root), "failed")
        finish(run_of(tasks["b"], root), "failed")
        a_again = run_rerun_failed(run=root, actor="user:ann")
        b_again = run_of(tasks["b"], a_again)
        start(a_again, b_again)
        assert set(ledger.cancel([a_again.pk], "user:ann")) == {a_again.pk, b_again.pk}


def in_threads(calls: Sequence[Callable[[], object]]) -> None:
    """All at the same time, each on a connection of its own."""

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(run, calls))


@pytest.mark.usefixtures("committed")
class TestConcurrency:
    def test_parents_that_end_at_the_same_time_start_the_join_once(self) -> None:
        first = make_task()
        parents = [make_task(first) for _ in range(6)]
        join = make_task(*parents)
        for _ in range(5):
            root = finish(make_run(first))
            runs = [run_of(parent, root) for parent in parents]
            start(*runs)
            in_threads(
                [
                    partial(ledger.finish, [Finish(run.pk, 1, "succeeded")])
                    for run in runs
                ]
            )
            assert status_of(join, root) == "queued"

    def test_nothing_is_started_by_ends_that_race_with_a_cancel(self) -> None:
        """Whoever wins: a child is created before the cancel and goes with it, or
        after it and is skipped."""
        first = make_task()
        parents = [make_task(first) for _ in range(4)]
        children = [make_task(parent, trigger_rule="all_done") for parent in parents]
        join = make_task(*children, trigger_rule="all_done")
        for _ in range(10):
            root = finish(make_run(first))
            runs = [run_of(parent, root) for parent in parents]
            start(*runs)
            in_threads(
                [
                    *(
                        partial(ledger.finish, [Finish(run.pk, 1, "succeeded")])
                        for run in runs
                    ),
                    partial(ledger.cancel, [root.pk], "user:ann"),
                ]
            )
            assert not TaskRun.objects.filter(root=root).unfinished().exists()
            assert status_of(join, root) == "skipped"

    def test_reruns_that_end_at_the_same_time_see_each_other(self) -> None:
        first = make_task()
        left, right = make_task(first), make_task(first)
        join = make_task(left, right)
        for _ in range(5):
            root = finish(make_run(first))
            failed = [
                finish(run, "failed")
                for run in (run_of(left, root), run_of(right, root))
            ]
            again = [run_rerun(run=run, actor="user:ann") for run in failed]
            start(*again)
            in_threads(
                [
                    partial(ledger.finish, [Finish(run.pk, 1, "succeeded")])
                    for run in again
                ]
            )
            found = TaskRun.objects.filter(task=join, root__in=again)
            assert sorted(run.status for run in found) == ["queued", "skipped"]
