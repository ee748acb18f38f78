"""Runs: trigger, cancel, and run again."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q

from tasks_app import ledger
from tasks_app.choices import RunStatus, TaskStatus, Trigger
from tasks_app.errors import (
    FieldError,
    InvalidInput,
    NothingFailed,
    RunAlreadyFinished,
    RunNotFinished,
    TaskDeleted,
    TooManyQueuedRuns,
)
from tasks_app.models import Task, TaskDependency, TaskRun, TaskVersion
from tasks_app.rules.dependencies import topmost
from tasks_app.rules.params import param_problems
from tasks_app.run_history import runs_by_id

FAILED = (
    RunStatus.FAILED,
    RunStatus.TIMED_OUT,
    RunStatus.LOST,
    RunStatus.CANCELLED,
    RunStatus.EXPIRED,
)
"""The ends of a run that has not done its work."""
WAITS_TOO_LONG = "(max_queued)"
"""How the reason of a run ends that the cap of waiting runs has skipped."""


@transaction.atomic
def run_trigger(
    *,
    task: Task,
    actor: str,
    params: dict[str, Any] | None = None,
    reason: str = "",
    trigger: str = Trigger.API,
    version_id: int | None = None,
) -> TaskRun:
    """Run a task now, with its current definition, paused or not.

    `params` reach the job as `PARAM_<NAME>` in its environment. `actor` is who asked,
    as `user:<name>`; `reason` why, in their words. `version_id` is that of the task's
    current definition, if it has been read with the task.

    Raises:
        InvalidInput: a parameter's name or value cannot be passed on.
        TooManyQueuedRuns: as many runs of the task wait as may.
        TaskDeleted: the task has been deleted.
    """
    return _run(
        ledger.NewRun(
            task_id=task.pk,
            version_id=_version_id(task) if version_id is None else version_id,
            trigger=trigger,
            queue=task.queue,
            params=_checked(params or {}),
            trigger_reason=reason,
            triggered_by=actor,
            start_deadline_seconds=task.start_deadline_seconds,
        ),
        task,
    )


@transaction.atomic
def run_rerun(*, run: TaskRun, actor: str) -> TaskRun:
    """Run a finished run's task again, with that run's parameters and the task's
    current definition; what waits below it follows.

    The new run is a root. Where a task below it has other parents too, their last
    runs in the old workflow count.

    Raises:
        RunNotFinished: it is still queued or running.
        TooManyQueuedRuns: as many runs of the task wait as may.
        TaskDeleted: the task has been deleted.
    """
    if not run.is_terminal:
        raise RunNotFinished
    return _run(_again(run, actor), run.task)


@transaction.atomic
def run_rerun_failed(*, run: TaskRun, actor: str) -> TaskRun:
    """Run again what went wrong in the workflow of a root run, and what is below it.

    Of the runs that failed, timed out, were lost, cancelled, or expired, those start
    again that no other of them leads to: the first as the root of one new workflow,
    the others beside it, so that what waits for two of them runs once. Returns the
    new root; the others have it as their root.

    Raises:
        InvalidInput: the run is not the first of its workflow.
        RunNotFinished: a run of the workflow is still queued or running.
        NothingFailed: every run succeeded or was skipped.
        TooManyQueuedRuns: as many runs of a task wait as may.
        TaskDeleted: the task of one that failed has been deleted.
    """
    if run.root_id is not None:
        raise InvalidInput.of(
            "from",
            "not_a_root",
            f"ask for it at the workflow's root, run {run.root_id}",
        )
    runs = workflow_of(run)
    if unfinished := next((each for each in runs if not each.is_terminal), None):
        raise RunNotFinished(
            f"Run {unfinished.pk} of the workflow has not finished yet; cancel it, wait"
            " for its end, or run single runs again."
        )
    failed = {each.task_id: each for each in runs if each.status in FAILED}
    if not failed:
        raise NothingFailed
    edges = TaskDependency.objects.values_list("parent_id", "child_id")
    first, *others = sorted(topmost(edges, failed), key=lambda task: failed[task].pk)
    root = _run(_again(failed[first], actor), failed[first].task)
    for task_id in others:
        _run(_again(failed[task_id], actor, root_id=root.pk), failed[task_id].task)
    return root


def workflow_of(root: TaskRun) -> list[TaskRun]:
    """A root run and those below it, which are wherever it is itself."""
    runs = TaskRun.objects.using(root._state.db).order_by("pk")
    ids = runs.filter(Q(pk=root.pk) | Q(root=root.pk)).values_list("pk", flat=True)
    return runs_by_id(list(ids))


def _again(run: TaskRun, actor: str, root_id: int | None = None) -> ledger.NewRun:
    return ledger.NewRun(
        task_id=run.task_id,
        version_id=_version_id(run.task),
        trigger=Trigger.RERUN,
        queue=run.task.queue,
        scheduled_for=run.scheduled_for,
        params=run.params,
        triggered_by=actor,
        start_deadline_seconds=run.task.start_deadline_seconds,
        rerun_of_id=run.pk,
        root_id=root_id,
    )


def _version_id(task: Task) -> int:
    """Of the task's current definition; which, as it may be large, is not read."""
    versions = TaskVersion.objects.filter(task=task, number=task.version)
    return versions.values_list("pk", flat=True).get()


def _checked(params: dict[str, Any]) -> dict[str, Any]:
    if problems := param_problems(params):
        raise InvalidInput(
            [
                FieldError(("params", problem.name), problem.code, problem.message)
                for problem in problems
            ]
        )
    return params


def _run(new: ledger.NewRun, task: Task) -> TaskRun:
    if task.status == TaskStatus.DELETED:
        raise TaskDeleted
    run = ledger.create_one(new)
    run.task = task
    if run.status == RunStatus.SKIPPED and run.reason.endswith(WAITS_TOO_LONG):
        waiting = task.runs.filter(status=RunStatus.QUEUED).count()
        raise TooManyQueuedRuns(
            f"{waiting} runs of the task wait already, as many as may (max_queued): try"
            " again when some have started, cancel some, or raise max_queued."
        )
    return run


def run_cancel(*, run_id: int, actor: str) -> dict[int, ledger.CancelAnswer]:
    """Cancel a run: at once if it is queued; by its worker, within a heartbeat and
    the grace, if it is running. Asking twice is the same as asking once.

    Cancelling a root run cancels its workflow: every unfinished run below it goes
    too, also when the root itself has ended, and what they would have started is
    skipped. Returns what became of each run that had not finished.

    Raises:
        RunAlreadyFinished: nothing was left to cancel; its outcome stands.
    """
    answers = ledger.cancel([run_id], actor)
    if not answers:
        raise RunAlreadyFinished
    return answers
