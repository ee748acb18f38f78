"""Tasks: define, change, pause, resume, delete, and chain them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction

from executors.payloads import PayloadInvalid, validate_payload
from executors.registry import UnknownExecutor
from tasks_app import ledger
from tasks_app.choices import Condition, Delivery, RunStatus, TaskStatus
from tasks_app.errors import FieldError, InvalidInput, TaskDeleted, VersionMismatch
from tasks_app.models import Project, Task, TaskDependency, TaskVersion
from tasks_app.models.project import DEFAULT_PROJECT
from tasks_app.models.task import DEFINITION_FIELDS, executor_payload
from tasks_app.rules.dependencies import find_cycle
from tasks_app.rules.schedules import (
    Schedule,
    ScheduleInvalid,
    next_fire,
    parse_timezone,
)
from tasks_app.services.schedules import (
    ScheduleInput,
    schedule_parse,
    schedule_values,
    schedule_write,
)


class Unchanged(Enum):
    """Stands for a value that was not given, where None means something."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class ParentInput:
    """A dependency as it comes in: the parent's id, and on which ending to run."""

    task_id: int
    condition: str = Condition.SUCCESS


@transaction.atomic
def task_create(
    *,
    values: Mapping[str, Any],
    schedule: ScheduleInput | None = None,
    parents: Sequence[ParentInput] = (),
    actor: User | None = None,
) -> Task:
    """Define a task. `values` are fields of Task by name; `name` and `executor` must
    be among them, `project` (a Project) may be.

    Raises:
        InvalidInput: each wrong field, with its reason.
    """
    task = Task()
    _apply(task, {"project": _default_project, **values})
    rule = _rule(task, schedule)
    _check(task)
    _save_new_name(task)
    if rule is not None:
        task.next_fire_at = next_fire(rule, ledger.database_now())
        schedule_write(task, rule)
        task.save(update_fields=["schedule", "next_fire_at"])
    _set_parents(task, parents)
    _record_version(task, rule, actor)
    return task


@transaction.atomic
def task_update(
    *,
    task_id: int,
    values: Mapping[str, Any],
    schedule: ScheduleInput | Unchanged | None = UNCHANGED,
    parents: Sequence[ParentInput] | Unchanged = UNCHANGED,
    expected_version: int | None = None,
    actor: User | None = None,
) -> Task:
    """Change a task. A changed definition is a new version; runs that exist keep
    theirs. A changed schedule or time zone starts anew from now.

    Raises:
        InvalidInput: each wrong field, with its reason.
        VersionMismatch: the task's version is not `expected_version`.
        TaskDeleted: the task has been deleted.
    """
    task = _lock(task_id)
    if expected_version is not None and task.version != expected_version:
        raise VersionMismatch
    before = _definition(task, task.schedule_rule())
    _apply(task, values)
    if errors := _timezone_errors(task):  # no rule can be read in such a zone
        raise InvalidInput(errors)
    rule = task.schedule_rule()
    if schedule is not UNCHANGED:
        rule = _rule(task, schedule)
    _check(task)
    after = _definition(task, rule)
    is_rescheduled = any(
        before[name] != after[name] for name in ("schedule", "timezone")
    )
    if is_rescheduled:
        task.next_fire_at = _cursor(task, rule)
    schedule_write(task, rule)
    if before != after:
        task.version += 1
    _save_new_name(task)
    if parents is not UNCHANGED:
        _set_parents(task, parents)
    if before != after:
        _record_version(task, rule, actor)
    return task


@transaction.atomic
def task_pause(*, task_id: int) -> Task:
    """Stop the schedule. Runs that are queued or running go on; a fire that is due
    already is still accounted for. Pausing a paused task changes nothing."""
    task = _lock(task_id)
    task.status = TaskStatus.PAUSED
    return _save_status(task)


@transaction.atomic
def task_resume(*, task_id: int) -> Task:
    """Start the schedule again, from now: what would have fired during the pause was
    not meant to run."""
    task = _lock(task_id)
    if task.status == TaskStatus.PAUSED:
        task.status = TaskStatus.ACTIVE
        task.next_fire_at = _cursor(task, task.schedule_rule())
    return _save_status(task)


@transaction.atomic
def task_delete(*, task_id: int, actor: str) -> None:
    """Take a task out of use. Its history stays; its queued runs are cancelled."""
    task = _lock(task_id)
    task.status = TaskStatus.DELETED
    task.next_fire_at = None
    schedule_write(task, None)
    task.save(update_fields=["status", "next_fire_at", "schedule", "updated_at"])
    TaskDependency.objects.filter(parent=task).delete()
    TaskDependency.objects.filter(child=task).delete()
    queued = task.runs.filter(status=RunStatus.QUEUED)
    ledger.cancel(list(queued.values_list("id", flat=True)), actor)


def _lock(task_id: int) -> Task:
    """The task, locked, with every fire accounted for that is due already."""
    task = Task.objects.select_for_update(of=("self",)).get(pk=task_id)
    if task.status == TaskStatus.DELETED:
        raise TaskDeleted
    ledger.plan(task_ids=[task_id])
    task.refresh_from_db()
    return task


def _default_project() -> Project:
    return Project.objects.get(name=DEFAULT_PROJECT)


def _apply(task: Task, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(task, name, value() if callable(value) else value)
    # Asking for more than one attempt says that the work may be repeated (C4).
    if "delivery" not in values and "max_attempts" in values:
        repeats = task.max_attempts > 1
        task.delivery = Delivery.AT_LEAST_ONCE if repeats else Delivery.AT_MOST_ONCE


def _rule(task: Task, schedule: ScheduleInput | None) -> Schedule | None:
    if schedule is None:
        return None
    return schedule_parse(schedule, task.timezone, ledger.database_now())


def _cursor(task: Task, rule: Schedule | None) -> datetime | None:
    if rule is None or task.status != TaskStatus.ACTIVE:
        return None
    return next_fire(rule, ledger.database_now())


def _check(task: Task) -> None:
    errors = [
        *_field_errors(task),
        *_name_errors(task),
        *_executor_errors(task),
        *_timezone_errors(task),
    ]
    if task.delivery == Delivery.AT_MOST_ONCE and task.max_attempts > 1:
        errors.append(
            FieldError(
                ("retry", "max_attempts"),
                "retries_need_at_least_once",
                "more than one attempt needs delivery at_least_once: an at_most_once"
                " command is never started again",
            )
        )
    if errors:
        raise InvalidInput(errors)


_API_PATHS = {
    "retry_backoff": ("retry", "backoff"),
    "retry_initial_seconds": ("retry", "initial_seconds"),
    "retry_max_seconds": ("retry", "max_seconds"),
    "max_attempts": ("retry", "max_attempts"),
    "misfire": ("schedule", "misfire"),
    NON_FIELD_ERRORS: ("name",),
}
"""Where the API has a field of the model, if not under its own name."""


def _field_errors(task: Task) -> list[FieldError]:
    try:
        task.full_clean(exclude=["schedule"], validate_constraints=False)
        task.validate_constraints(exclude=["delivery"])
    except ValidationError as error:
        return [  # the one error without a code is that of the name's constraint
            FieldError(_API_PATHS.get(name, (name,)), detail.code or "name_taken", text)
            for name, details in error.error_dict.items()
            for detail in details
            for text in detail.messages
        ]
    return []


def _name_errors(task: Task) -> list[FieldError]:
    """A name stands in addresses, where digits alone are an id."""
    if re.fullmatch("[0-9]+", task.name):
        message = "a name of digits only would read as an id; add a letter"
        return [FieldError(("name",), "numeric_name", message)]
    if re.search(r"[/\x00-\x1f\x7f]", task.name):
        message = "a name has no / and no control characters: it stands in paths"
        return [FieldError(("name",), "bad_name", message)]
    return []


def _executor_errors(task: Task) -> list[FieldError]:
    try:
        payload = executor_payload(task.command, task.payload)
        validate_payload(task.executor, payload)
    except UnknownExecutor as error:
        return [FieldError(("executor",), "unknown_executor", str(error))]
    except PayloadInvalid as error:
        return [
            FieldError(
                problem.path
                if problem.path[:1] == ("command",)
                else ("payload", *problem.path),
                problem.code,
                problem.message,
            )
            for problem in error.problems
        ]
    return []


def _timezone_errors(task: Task) -> list[FieldError]:
    try:
        parse_timezone(task.timezone)
    except ScheduleInvalid as error:
        return [FieldError(("timezone",), error.code, error.message)]
    return []


def _save_new_name(task: Task) -> None:
    try:
        with transaction.atomic():
            task.save()
    except IntegrityError as error:  # another request took the name since the check
        raise InvalidInput.of(
            "name", "name_taken", "the project has a task of this name"
        ) from error


def _save_status(task: Task) -> Task:
    if task.schedule:
        task.schedule.enabled = task.status == TaskStatus.ACTIVE
        task.schedule.save()
    task.save(update_fields=["status", "next_fire_at", "updated_at"])
    return task


def _definition(task: Task, rule: Schedule | None) -> dict[str, Any]:
    values = {name: getattr(task, name) for name in DEFINITION_FIELDS}
    return {**values, "schedule": schedule_values(rule)}


def _record_version(task: Task, rule: Schedule | None, actor: User | None) -> None:
    TaskVersion.objects.create(
        task=task,
        number=task.version,
        definition=_definition(task, rule),
        created_by=actor,
    )


def _set_parents(task: Task, parents: Sequence[ParentInput]) -> None:
    """Replace the task's dependencies.

    Raises:
        InvalidInput: a parent does not exist, or the graph would have a cycle.
    """
    TaskDependency.objects.filter(child=task).delete()
    edges = list(TaskDependency.objects.values_list("parent_id", "child_id"))
    known = set(
        Task.objects.existing()
        .filter(pk__in=[parent.task_id for parent in parents])
        .values_list("pk", flat=True)
    )
    for index, parent in enumerate(parents):
        field = f"depends_on.{index}.task"
        if parent.task_id not in known:
            raise InvalidInput.of(field, "unknown_task", "there is no such task")
        cycle = find_cycle(edges, (parent.task_id, task.pk))
        if cycle:
            raise InvalidInput.of(
                field, "cycle", f"this would be a cycle: {_names(cycle)}"
            )
        edges.append((parent.task_id, task.pk))
    TaskDependency.objects.bulk_create(
        TaskDependency(parent_id=parent.task_id, child=task, condition=parent.condition)
        for parent in {parent.task_id: parent for parent in parents}.values()
    )


def _names(task_ids: Sequence[int]) -> str:
    names = dict(Task.objects.filter(pk__in=task_ids).values_list("pk", "name"))
    return " -> ".join(names[task_id] for task_id in task_ids)
