"""From the fields of a request to what the services of tasks take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks_app.choices import Overlap
from tasks_app.errors import FieldError, InvalidInput
from tasks_app.models import Project, Task
from tasks_app.models.project import DEFAULT_PROJECT
from tasks_app.models.task import DEFINITION_FIELDS
from tasks_app.rules.schedules import (
    CronSchedule,
    IntervalSchedule,
    OneOffSchedule,
    Schedule,
)
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import UNCHANGED, ParentInput, Unchanged

SCHEDULE_KINDS: Final = ("cron", "interval_seconds", "at")
RETRY_FIELDS: Final = {
    "max_attempts": "max_attempts",
    "backoff": "retry_backoff",
    "initial_seconds": "retry_initial_seconds",
    "max_seconds": "retry_max_seconds",
}
"""The fields of `retry`, and of the model."""
DEFAULT_RATE_SECONDS: Final = 60

_OWN_NAMES = (
    "name",
    "project",
    "description",
    "executor",
    "command",
    "payload",
    "queue",
    "timeout_seconds",
    "start_deadline_seconds",
    "delivery",
    "priority",
    "overlap",
    "max_concurrency",
    "max_queued",
    "calendars",
    "trigger_rule",
    "placement",
    "worker_name",
    "match",
    "pause_after_failures",
    "retention_days",
)
_SCHEDULE_POLICIES = ("timezone", "misfire", "jitter_seconds")


def model_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the model that a request names."""
    values = {name: given[name] for name in _OWN_NAMES if name in given}
    schedule, retry = given.get("schedule") or {}, given.get("retry") or {}
    values |= {name: schedule[name] for name in _SCHEDULE_POLICIES if name in schedule}
    values |= {RETRY_FIELDS[name]: value for name, value in retry.items()}
    return values | rate_limit_values(given)


def rate_limit_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the model for a `rate_limit`, which is given as a whole."""
    if "rate_limit" not in given:
        return {}
    limit = given["rate_limit"] or {"runs": None, "per_seconds": DEFAULT_RATE_SECONDS}
    return {
        "rate_limit_runs": limit["runs"],
        "rate_limit_seconds": limit["per_seconds"],
    }


def replacing_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the model for a task that is replaced: what the request does not
    name goes back to its default, but for the project, which is where the task is."""
    names = ("description", *(name for name in DEFINITION_FIELDS if name != "delivery"))
    blank = Task()
    defaults = {name: getattr(blank, name) for name in names}
    if given.get("max_concurrency") is not None:
        defaults["overlap"] = Overlap.QUEUE  # as for a new task
    return {**defaults, "calendars": [], **model_values(given)}


def replacing_schedule(task: Task, given: Mapping[str, Any]) -> ScheduleInput | None:
    """The schedule of a task that is replaced. An interval that stays the same keeps
    its anchor, so that the same request, sent again, changes nothing."""
    schedule = given.get("schedule")
    if schedule is None:
        return None
    rule = task.schedule_rule()
    if isinstance(rule, IntervalSchedule) and not schedule.get("start_at"):
        is_same = schedule.get("interval_seconds") == rule.seconds
        schedule = {**schedule, "start_at": rule.anchor if is_same else None}
    return ScheduleInput.of(schedule)


def merged_schedule(
    task: Task, given: Mapping[str, Any]
) -> ScheduleInput | Unchanged | None:
    """The task's schedule with the request's fields in it. A schedule of another kind
    takes the old one's place."""
    if "schedule" not in given:
        return UNCHANGED
    changes = given["schedule"]
    if changes is None:
        return None
    rule = task.schedule_rule()
    fields = rule_fields(rule) if rule else {}
    if not changes.keys() - set(_SCHEDULE_POLICIES):
        return UNCHANGED
    new_kinds = [kind for kind in SCHEDULE_KINDS if changes.get(kind) is not None]
    if any(kind not in fields for kind in new_kinds):
        fields = {}
    return ScheduleInput.of({**fields, **changes})


def rule_fields(rule: Schedule) -> dict[str, Any]:
    """The fields of the API that state a rule."""
    kind: dict[str, Any]
    match rule:
        case CronSchedule():
            start_at, kind = rule.start_at, {"cron": rule.expression}
        case IntervalSchedule():
            start_at, kind = rule.anchor, {"interval_seconds": rule.seconds}
        case OneOffSchedule():
            return {"at": rule.at}
    return {**kind, "start_at": start_at, "end_at": rule.end_at}


def parents(given: Mapping[str, Any], project: Project) -> Sequence[ParentInput]:
    """The dependencies of a request; names are those of tasks in the project.

    Raises:
        InvalidInput: there is no such task.
    """
    edges = given.get("depends_on", ())
    names = [edge["task"] for edge in edges if isinstance(edge["task"], str)]
    ids = _ids_of_names(names, project) if names else {}
    unknown = [
        FieldError(
            ("depends_on", str(index), "task"),
            "unknown_task",
            "There is no such task in the project.",
        )
        for index, edge in enumerate(edges)
        if isinstance(edge["task"], str) and edge["task"] not in ids
    ]
    if unknown:
        raise InvalidInput(unknown)
    return [ParentInput(ids.get(edge["task"], edge["task"])) for edge in edges]


def _ids_of_names(names: Sequence[str], project: Project) -> dict[str, int]:
    tasks = Task.objects.existing().filter(project=project, name__in=names)
    return dict(tasks.values_list("name", "pk"))


def project_of(given: Mapping[str, Any]) -> Project:
    project: Project = given.get("project") or Project.objects.get(name=DEFAULT_PROJECT)
    return project
