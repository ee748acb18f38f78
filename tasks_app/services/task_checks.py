"""What a task's definition must be, and what its fields imply for each other."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from executors import registry
from executors.payloads import PayloadInvalid, validate_payload
from executors.registry import UnknownExecutor
from tasks_app.choices import Delivery, Overlap, Placement
from tasks_app.errors import FieldError, InvalidInput
from tasks_app.models import Task
from tasks_app.models.task import executor_payload
from tasks_app.rules.match import MatchInvalid, parse_match
from tasks_app.rules.schedules import ScheduleInvalid, parse_timezone

_API_PATHS = {
    "retry_backoff": ("retry", "backoff"),
    "retry_initial_seconds": ("retry", "initial_seconds"),
    "retry_max_seconds": ("retry", "max_seconds"),
    "max_attempts": ("retry", "max_attempts"),
    "misfire": ("schedule", "misfire"),
    "jitter_seconds": ("schedule", "jitter_seconds"),
    "rate_limit_runs": ("rate_limit", "runs"),
    "rate_limit_seconds": ("rate_limit", "per_seconds"),
    NON_FIELD_ERRORS: ("name",),
}
"""Where the API has a field of the model, if not under its own name."""


def apply_implied(task: Task, given: Collection[str]) -> None:
    """Set the fields that were not given to what the given ones imply."""
    # Asking for more than one attempt says that the work may be repeated (C4).
    if "delivery" not in given and "max_attempts" in given:
        repeats = task.max_attempts > 1
        task.delivery = Delivery.AT_LEAST_ONCE if repeats else Delivery.AT_MOST_ONCE
    if task.overlap == Overlap.ALLOW:
        if "max_concurrency" not in given:
            task.max_concurrency = None
        elif "overlap" not in given and task.max_concurrency is not None:
            task.overlap = Overlap.QUEUE
    elif task.max_concurrency is None:
        task.max_concurrency = 1
    if task.placement != Placement.WORKER and "worker_name" not in given:
        task.worker_name = ""


def check(task: Task) -> None:
    """Check a task before it is saved; puts its match into canonical form, and sets
    its target.

    Raises:
        InvalidInput: each wrong field, with its reason.
    """
    errors = [
        *_field_errors(task),
        *_name_errors(task),
        *_executor_errors(task),
        *timezone_errors(task),
        *_match_errors(task),
        *_policy_errors(task),
    ]
    if errors:
        raise InvalidInput(errors)
    payload = executor_payload(task.command, task.payload)
    task.target = registry.target(task.executor, payload)


def _field_errors(task: Task) -> list[FieldError]:
    try:
        task.full_clean(exclude=["schedule"], validate_constraints=False)
        task.validate_constraints(exclude=["delivery", "overlap"])
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


def timezone_errors(task: Task) -> list[FieldError]:
    try:
        parse_timezone(task.timezone)
    except ScheduleInvalid as error:
        return [FieldError(("timezone",), error.code, error.message)]
    return []


def _match_errors(task: Task) -> list[FieldError]:
    if not task.match:
        return []
    try:
        task.match = parse_match(task.match).canonical
    except MatchInvalid as error:
        return [FieldError(("match",), error.code, error.message)]
    return []


def _policy_errors(task: Task) -> Iterator[FieldError]:
    """What does not go together."""
    if task.delivery == Delivery.AT_MOST_ONCE and task.max_attempts > 1:
        yield FieldError(
            ("retry", "max_attempts"),
            "retries_need_at_least_once",
            "more than one attempt needs delivery at_least_once: an at_most_once"
            " command is never started again",
        )
    if task.placement == Placement.BROADCAST and task.max_concurrency is not None:
        yield FieldError(
            ("max_concurrency",),
            "not_with_broadcast",
            "a broadcast runs on every worker at once: leave max_concurrency empty"
            " and overlap allow",
        )
    elif task.overlap == Overlap.ALLOW and task.max_concurrency is not None:
        yield FieldError(
            ("max_concurrency",),
            "overlap_is_allow",
            "overlap allow is without a limit: leave max_concurrency empty, or choose"
            " overlap queue, skip or replace",
        )
    yield from _placement_errors(task)


def _placement_errors(task: Task) -> Iterator[FieldError]:
    is_on_one = task.placement == Placement.WORKER
    if is_on_one and not task.worker_name:
        yield FieldError(
            ("worker_name",),
            "required",
            "placement worker needs the name of the worker",
        )
    if not is_on_one and task.worker_name:
        yield FieldError(
            ("worker_name",),
            "not_with_placement",
            f"placement {task.placement} names no worker: leave worker_name empty, or"
            " choose placement worker",
        )
    if is_on_one and task.match:
        yield FieldError(
            ("match",),
            "not_with_placement",
            "placement worker names its worker already: leave match empty",
        )
