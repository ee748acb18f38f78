"""Tasks: define, change, pause, resume, delete, and chain them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from tasks_app import ledger
from tasks_app.choices import AlertKind, RunStatus, TaskStatus
from tasks_app.errors import InvalidInput, TaskDeleted, VersionMismatch
from tasks_app.models import Project, Task, TaskDependency, TaskVersion
from tasks_app.models.project import DEFAULT_PROJECT
from tasks_app.models.task import DEFINITION_FIELDS
from tasks_app.rules.dependencies import find_cycle
from tasks_app.rules.schedules import Schedule, next_fire
from tasks_app.services.schedules import (
    ScheduleInput,
    schedule_enable,
    schedule_parse,
    schedule_values,
    schedule_write,
)
from tasks_app.services.task_checks import apply_implied, check, timezone_errors


class Unchanged(Enum):
    """Stands for a value that was not given, where None means something."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class ParentInput:
    """A dependency as it comes in: the parent's id."""

    task_id: int


@transaction.atomic
def task_create(
    *,
    values: Mapping[str, Any],
    schedule: ScheduleInput | None = None,
    parents: Sequence[ParentInput] = (),
    actor: User | None = None,
) -> Task:
    """Define a task. `values` are fields of Task by name; `name` and `executor` must
    be among them, `project` (a Project) and `calendars` (of Calendar) may be.

    Raises:
        InvalidInput: each wrong field, with its reason.
    """
    task = Task()
    _apply(task, {"project": _default_project, **values})
    rule = _rule(task, schedule)
    check(task)
    _save(task, values)
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
    theirs, their queue, priority and placement. A changed schedule or time zone starts
    anew from now. Changed limits apply to the runs that wait, too.

    Raises:
        InvalidInput: each wrong field, with its reason.
        VersionMismatch: the task's version is not `expected_version`.
        TaskDeleted: the task has been deleted.
    """
    task = task_lock(task_id)
    if expected_version is not None and task.version != expected_version:
        raise VersionMismatch
    old_rule, old_limits = task.schedule_rule(), _limits(task)
    before = _definition(task, old_rule)
    _apply(task, values)
    if errors := timezone_errors(task):  # no rule can be read in such a zone
        raise InvalidInput(errors)
    rule = task.schedule_rule()
    if schedule is not UNCHANGED:
        rule = _rule(task, schedule)
    check(task)
    after = _definition(task, rule)
    if _schedule_of(before) != _schedule_of(after):
        _start_anew(task, old_rule, rule)
    schedule_write(task, rule)
    task.version += before != after
    _save(task, values)
    if parents is not UNCHANGED:
        _set_parents(task, parents)
    if before != after:
        _record_version(task, rule, actor)
    if _limits(task) != old_limits:
        ledger.hold([task.pk])
    return task


@transaction.atomic
def task_pause(*, task_id: int) -> Task:
    """Stop the schedule. Runs that are queued or running go on; a fire that is due
    already is still accounted for. The cursor stays: what comes due meanwhile is
    decided about when the task is resumed. Pausing a paused task changes nothing."""
    task = task_lock(task_id)
    task.status = TaskStatus.PAUSED
    return _save_status(task)


@dataclass(frozen=True, slots=True)
class Resumption:
    """A task, and what became (or would become) of the fires of its pause."""

    task: Task
    outlook: ledger.PauseOutlook


@transaction.atomic
def task_resume(*, task_id: int) -> Resumption:
    """Start the schedule again. What came due during the pause was missed, and the
    misfire policy decides about it. The alerts of the pause are resolved."""
    task = task_lock(task_id)
    if task.status != TaskStatus.PAUSED:
        return Resumption(task, ledger.PauseOutlook(0, 0, 0, task.next_fire_at))
    outlook = ledger.end_pause(task, task.schedule_rule())
    task.status = TaskStatus.ACTIVE
    task.status_reason = ""
    task.next_fire_at = outlook.next_fire_at
    _resolve_alerts(task)
    return Resumption(_save_status(task), outlook)


def task_resume_preview(*, task_id: int) -> ledger.PauseOutlook:
    """What a resume would do now, by the misfire policy and the blackouts. What an
    overlap policy makes of runs that start at once is not foreseen."""
    task = Task.objects.get(pk=task_id)
    if task.status == TaskStatus.DELETED:
        raise TaskDeleted
    if task.status != TaskStatus.PAUSED:
        return ledger.PauseOutlook(0, 0, 0, task.next_fire_at)
    return ledger.pause_outlook(task)


@transaction.atomic
def task_delete(*, task_id: int, actor: str) -> None:
    """Take a task out of use. Its history stays; its queued runs are cancelled."""
    task = task_lock(task_id)
    task.status = TaskStatus.DELETED
    task.next_fire_at = None
    schedule_write(task, None)
    task.save(update_fields=["status", "next_fire_at", "schedule", "updated_at"])
    TaskDependency.objects.filter(parent=task).delete()
    TaskDependency.objects.filter(child=task).delete()
    _resolve_alerts(task)
    queued = task.runs.filter(status=RunStatus.QUEUED)
    ledger.cancel(list(queued.values_list("id", flat=True)), actor)


def task_lock(task_id: int) -> Task:
    """The task, locked, with every fire accounted for that is due already; in the
    caller's transaction.

    Raises:
        TaskDeleted: the task has been deleted.
    """
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
        if name != "calendars":  # many to many: set once the task has its id
            setattr(task, name, value() if callable(value) else value)
    apply_implied(task, values)


def _rule(task: Task, schedule: ScheduleInput | None) -> Schedule | None:
    if schedule is None:
        return None
    return schedule_parse(schedule, task.timezone, ledger.database_now())


def _schedule_of(definition: Mapping[str, Any]) -> tuple[Any, Any]:
    return definition["schedule"], definition["timezone"]


def _start_anew(task: Task, old: Schedule | None, new: Schedule | None) -> None:
    """Count from now by the new rule. The fires of a pause are not left behind: they
    are accounted for by the old rule, as skipped."""
    if task.status == TaskStatus.PAUSED:
        ledger.end_pause(task, old, is_dropped=True)
    task.next_fire_at = next_fire(new, ledger.database_now()) if new else None


def _limits(task: Task) -> tuple[int | None, ...]:
    """What admission reads of a task."""
    return (
        task.project_id,
        task.max_concurrency,
        task.rate_limit_runs,
        task.rate_limit_seconds,
    )


def _save(task: Task, values: Mapping[str, Any]) -> None:
    try:
        with transaction.atomic():
            task.save()
    except IntegrityError as error:  # another request took the name since the check
        raise InvalidInput.of(
            "name", "name_taken", "the project has a task of this name"
        ) from error
    if "calendars" in values:
        task.calendars.set(values["calendars"])


def _save_status(task: Task) -> Task:
    schedule_enable(task)
    task.save(update_fields=["status", "status_reason", "next_fire_at", "updated_at"])
    return task


def _resolve_alerts(task: Task) -> None:
    for kind in (AlertKind.PAUSED_ITSELF, AlertKind.POISON, AlertKind.NO_WORKER):
        ledger.alert_resolve(kind, [f"task:{task.pk}"])


def _definition(task: Task, rule: Schedule | None) -> dict[str, Any]:
    values = {name: getattr(task, name) for name in DEFINITION_FIELDS}
    return {**values, "schedule": schedule_values(rule)}


def _record_version(task: Task, rule: Schedule | None, actor: User | None) -> None:
    TaskVersion.objects.create(
        task=task,
        number=task.version,
        definition=_definition(task, rule),
        created_at=ledger.database_now(),
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
        TaskDependency(parent_id=parent.task_id, child=task)
        for parent in {parent.task_id: parent for parent in parents}.values()
    )


def _names(task_ids: Sequence[int]) -> str:
    names = dict(Task.objects.filter(pk__in=task_ids).values_list("pk", "name"))
    return " -> ".join(names[task_id] for task_id in task_ids)
