"""Runs: triggered, cancelled, run again."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_app.errors import (
    InvalidInput,
    NothingFailed,
    RunAlreadyFinished,
    RunNotFinished,
    TaskDeleted,
)
from tasks_app.ledger import CancelAnswer
from tasks_app.models import TaskRun
from tasks_app.services.runs import (
    run_cancel,
    run_rerun,
    run_rerun_failed,
    run_trigger,
)
from tasks_app.services.tasks import task_delete, task_pause, task_update
from tests.factories import end, make_run, make_task

pytestmark = pytest.mark.django_db


class TestTrigger:
    def test_a_run_says_who_asked_for_it_and_why(self) -> None:
        run = run_trigger(
            task=make_task(), actor="user:ann", reason="before the migration"
        )
        assert (run.status, run.trigger, run.triggered_by, run.trigger_reason) == (
            "queued",
            "api",
            "user:ann",
            "before the migration",
        )

    def test_a_paused_task_can_be_run_by_hand(self) -> None:
        task = task_pause(task_id=make_task(interval_seconds=60).pk)
        assert run_trigger(task=task, actor="user:ann").status == "queued"

    def test_a_deleted_task_cannot(self) -> None:
        task = make_task()
        task_delete(task_id=task.pk, actor="user:ann")
        task.refresh_from_db()
        with pytest.raises(TaskDeleted):
            run_trigger(task=task, actor="user:ann")

    @pytest.mark.parametrize(
        ("params", "field", "code"),
        [
            ({"a=b": 1}, "a=b", "bad_name"),
            ({"1x": 1}, "1x", "bad_name"),
            ({"x": "\0"}, "x", "null_character"),
            ({"x": "\ud800"}, "x", "bad_unicode"),
            ({"x": "y" * 131_072}, "x", "too_long"),
            ({f"p{n}": n for n in range(101)}, "", "too_many"),
            ({"Parent_Results": {}}, "Parent_Results", "reserved"),
        ],
    )
    def test_a_parameter_that_cannot_reach_the_job_is_named(
        self, params: dict[str, Any], field: str, code: str
    ) -> None:
        task = make_task()
        with pytest.raises(InvalidInput) as caught:
            run_trigger(task=task, actor="user:ann", params=params)
        (error,) = caught.value.errors
        assert (error.path, error.code) == (("params", field), code)
        assert not TaskRun.objects.exists()


class TestCancel:
    def test_a_finished_run_cannot_be_cancelled(self) -> None:
        run = end(make_run())
        with pytest.raises(RunAlreadyFinished):
            run_cancel(run_id=run.pk, actor="user:ann")

    def test_a_queued_run_is_cancelled(self) -> None:
        run = make_run()
        answers = run_cancel(run_id=run.pk, actor="user:ann")
        assert answers == {run.pk: CancelAnswer.CANCELLED}

    def test_a_root_that_has_ended_is_cancelled_for_what_lives_below_it(self) -> None:
        parent = make_task()
        child = make_task(parent)
        root = end(make_run(parent))
        run = child.runs.get()
        answers = run_cancel(run_id=root.pk, actor="user:ann")
        assert answers == {run.pk: CancelAnswer.CANCELLED}
        with pytest.raises(RunAlreadyFinished):
            run_cancel(run_id=root.pk, actor="user:ann")


class TestRerun:
    def test_it_runs_the_present_definition_with_the_same_parameters(self) -> None:
        run = end(make_run(params={"day": "monday"}), "failed")
        task_update(task_id=run.task_id, values={"command": "echo fixed"})
        again = run_rerun(run=TaskRun.objects.get(pk=run.pk), actor="user:ann")
        assert again.params == {"day": "monday"}
        assert again.version.definition["command"] == "echo fixed"
        assert (again.trigger, again.rerun_of_id) == ("rerun", run.pk)
        assert again.scheduled_for == run.scheduled_for

    def test_an_unfinished_run_is_not_run_again(self) -> None:
        with pytest.raises(RunNotFinished):
            run_rerun(run=make_run(), actor="user:ann")


class TestRerunFailed:
    """What it makes is told in tests/tasks_app/ledger/test_downstream.py."""

    def test_it_begins_at_the_root_of_a_workflow(self) -> None:
        parent = make_task()
        child = make_task(parent)
        root = end(make_run(parent))
        with pytest.raises(InvalidInput) as caught:
            run_rerun_failed(run=end(child.runs.get(), "failed"), actor="user:ann")
        (error,) = caught.value.errors
        assert (error.path, error.code) == (("from",), "not_a_root")
        assert f"run {root.pk}" in error.message

    def test_a_workflow_that_goes_on_names_the_run_that_does(self) -> None:
        parent = make_task()
        child = make_task(parent)
        root = end(make_run(parent))
        with pytest.raises(RunNotFinished, match=f"Run {child.runs.get().pk} "):
            run_rerun_failed(run=root, actor="user:ann")

    def test_without_a_failure_there_is_nothing_to_run(self) -> None:
        parent = make_task()
        make_task(parent, trigger_rule="all_failed")  # which is skipped
        with pytest.raises(NothingFailed):
            run_rerun_failed(run=end(make_run(parent)), actor="user:ann")
        assert TaskRun.objects.count() == 2

    def test_a_deleted_task_runs_nothing_again_of_its_workflow(self) -> None:
        parent = make_task()
        lasting, deleted = make_task(parent), make_task(parent)
        root = end(make_run(parent))
        end(lasting.runs.get(), "failed")
        end(deleted.runs.get(), "failed")
        task_delete(task_id=deleted.pk, actor="user:ann")
        with pytest.raises(TaskDeleted):
            run_rerun_failed(run=root, actor="user:ann")
