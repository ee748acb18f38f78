"""Runs: trigger, cancel, and run again."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from tasks_app import ledger
from tasks_app.choices import TaskStatus, Trigger
from tasks_app.errors import (
    FieldError,
    InvalidInput,
    RunAlreadyFinished,
    RunNotFinished,
    TaskDeleted,
)
from tasks_app.models import Task, TaskRun, TaskVersion
from tasks_app.rules.params import param_problems


@transaction.atomic
def run_trigger(
    *,
    task: Task,
    actor: str,
    params: dict[str, Any] | None = None,
    reason: str = "",
    trigger: str = Trigger.API,
) -> TaskRun:
    """Run a task now, with its current definition, paused or not.

    `params` reach the job as `PARAM_<NAME>` in its environment. `actor` is who asked,
    as `user:<name>`; `reason` why, in their words.

    Raises:
        InvalidInput: a parameter's name or value cannot be passed on.
        TaskDeleted: the task has been deleted.
    """
    version = TaskVersion.objects.get(task=task, number=task.version)
    return _run(
        ledger.NewRun(
            task_id=task.pk,
            version_id=version.pk,
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
    current definition.

    Raises:
        RunNotFinished: it is still queued or running.
        TaskDeleted: the task has been deleted.
    """
    if not run.is_terminal:
        raise RunNotFinished
    task = run.task
    version = TaskVersion.objects.get(task=task, number=task.version)
    return _run(
        ledger.NewRun(
            task_id=task.pk,
            version_id=version.pk,
            trigger=Trigger.RERUN,
            queue=task.queue,
            scheduled_for=run.scheduled_for,
            params=run.params,
            triggered_by=actor,
            start_deadline_seconds=task.start_deadline_seconds,
            rerun_of_id=run.pk,
        ),
        task,
    )


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
    (run_id,) = ledger.create([new])
    return TaskRun.objects.select_related("task").get(pk=run_id)


def run_cancel(*, run_id: int, actor: str) -> ledger.CancelAnswer:
    """Cancel a run: at once if it is queued; by its worker, within a heartbeat and
    the grace, if it is running. Asking twice is the same as asking once.

    Raises:
        RunAlreadyFinished: it had ended before; its outcome stands.
    """
    answer = ledger.cancel([run_id], actor).get(run_id)
    if answer is None:
        raise RunAlreadyFinished
    return answer
