"""Workflows: children are created with their parent's end, once under one root."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from tasks_app import ledger
from tasks_app.ledger import Finish
from tasks_app.models import Task, TaskRun
from tasks_app.services.tasks import task_pause
from tests.factories import claim, end, make_run, make_task, shift


def run_of(task: Task, root: TaskRun) -> TaskRun | None:
    return TaskRun.objects.filter(task=task, root=root).first()


def status_of(task: Task, root: TaskRun) -> str | None:
    run = run_of(task, root)
    return run.status if run else None


@pytest.mark.django_db
class TestChains:
    @pytest.mark.parametrize(
        ("condition", "ending", "child"),
        [
            ("success", "succeeded", "queued"),
            ("success", "failed", "skipped"),
            ("success", "cancelled", "skipped"),
            ("failure", "failed", "queued"),
            ("failure", "timed_out", "queued"),
            ("failure", "succeeded", "skipped"),
            ("done", "succeeded", "queued"),
            ("done", "failed", "queued"),
            ("done", "cancelled", "queued"),
        ],
    )
    def test_the_condition_decides(
        self, condition: str, ending: str, child: str
    ) -> None:
        parent = make_task()
        task = make_task(parent, condition=condition)
        root = end(make_run(parent), ending)
        assert status_of(task, root) == child

    def test_a_child_knows_its_root_and_its_parent(self) -> None:
        first = make_task()
        second = make_task(first)
        third = make_task(second)
        root = end(make_run(first))
        middle = run_of(second, root)
        assert middle
        end(middle)
        last = run_of(third, root)
        assert last
        assert (last.root_id, last.parent_id) == (root.pk, middle.pk)
        assert last.scheduled_for == root.scheduled_for
        assert last.trigger == "dependency"

    def test_a_retry_starts_no_children(self) -> None:
        parent = make_task(max_attempts=2)
        task = make_task(parent, condition="done")
        root = end(make_run(parent), "failed", retry_seconds=0.0)
        assert run_of(task, root) is None

    def test_a_skip_is_handed_on_with_its_reason(self) -> None:
        first = make_task(name="extract")
        second = make_task(first)
        third = make_task(second, condition="success")
        root = end(make_run(first), "failed")
        skipped = run_of(second, root)
        assert skipped
        assert "extract" in skipped.reason
        assert status_of(third, root) == "skipped"

    def test_a_paused_child_is_skipped_with_the_reason(self) -> None:
        parent = make_task()
        task = make_task(parent)
        task_pause(task_id=task.pk)
        root = end(make_run(parent))
        run = run_of(task, root)
        assert run
        assert (run.status, run.reason) == ("skipped", "the task is paused")

    def test_a_lost_run_has_children_too(self) -> None:
        parent = make_task()
        task = make_task(parent, condition="failure")
        root = make_run(parent)
        claim(root)
        shift(TaskRun, root.pk, 60, "lease_expires_at")
        ledger.reap()
        assert status_of(task, root) == "queued"

    def test_cancel_of_a_queued_run_skips_what_waits_for_its_success(self) -> None:
        parent = make_task()
        task = make_task(parent)
        root = make_run(parent)
        ledger.cancel([root.pk], "user:test")
        assert status_of(task, root) == "skipped"


@pytest.mark.django_db
class TestJoins:
    def test_a_join_waits_for_all_parents_of_its_root(self) -> None:
        start = make_task()
        left, right = make_task(start), make_task(start)
        join = make_task(left, right)
        root = end(make_run(start))
        left_run, right_run = run_of(left, root), run_of(right, root)
        assert left_run
        assert right_run

        end(left_run)
        assert run_of(join, root) is None
        end(right_run)
        assert status_of(join, root) == "queued"

    def test_a_parent_outside_of_the_workflow_is_not_waited_for(self) -> None:
        start, stranger = make_task(), make_task()
        join = make_task(start, stranger)
        root = end(make_run(start))
        assert status_of(join, root) == "queued"

    def test_two_roots_do_not_mix(self) -> None:
        start = make_task()
        left, right = make_task(start), make_task(start)
        join = make_task(left, right)
        one, two = end(make_run(start)), end(make_run(start))
        one_left, two_right = run_of(left, one), run_of(right, two)
        assert one_left
        assert two_right
        end(one_left)
        end(two_right)
        assert run_of(join, one) is None
        assert run_of(join, two) is None


@pytest.mark.usefixtures("committed")
class TestConcurrentEnds:
    def test_parents_that_end_at_the_same_time_start_the_join_once(self) -> None:
        start = make_task()
        parents = [make_task(start) for _ in range(6)]
        join = make_task(*parents)
        for _ in range(3):
            root = end(make_run(start))
            runs = [run_of(parent, root) for parent in parents]
            for run in runs:
                assert run
                claim(run)

            def finish(run: TaskRun) -> None:
                try:
                    ledger.finish([Finish(run.pk, 1, "succeeded")])
                finally:
                    connection.close()

            with ThreadPoolExecutor(6) as pool:
                list(pool.map(finish, runs))

            assert TaskRun.objects.filter(task=join, root=root).count() == 1
