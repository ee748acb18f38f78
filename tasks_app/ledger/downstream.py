"""What waits for a run: children are created in the transaction of its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from django.db.models import F, Q

from tasks_app.choices import RunStatus, TaskStatus, Trigger
from tasks_app.ledger.creating import create
from tasks_app.ledger.dialects import dialect, fetch
from tasks_app.ledger.records import Ended, NewRun
from tasks_app.models import Task, TaskDependency, TaskRun, TaskVersion
from tasks_app.rules.dependencies import (
    Condition,
    JoinDecision,
    ParentState,
    join_decision,
)


def release(ended: Iterable[Ended]) -> None:
    """Create the children that these ends make ready; skip those they rule out.

    A skipped child is an end of its own and is handed on to its children. Concurrent
    ends under one root take turns on the root's row, so that the last of a join's
    parents sees all the others; the unique key (root, task) lets one child through.
    """
    pending = list(ended)
    while pending:
        pending = _release_children(pending)


def _release_children(ended: Sequence[Ended]) -> list[Ended]:
    """Returns the children that were skipped: ends in their turn."""
    child_ids: dict[int, list[int]] = defaultdict(list)
    edges = TaskDependency.objects.filter(parent__in={end.task_id for end in ended})
    for parent_id, child_id in edges.values_list("parent_id", "child_id"):
        child_ids[parent_id].append(child_id)
    parents = [end for end in ended if end.task_id in child_ids]
    if not parents:
        return []
    _take_turns({end.root_id for end in parents})
    new_runs = [
        run
        for end in parents
        for child_id in child_ids[end.task_id]
        if (run := _child_run(end, child_id)) is not None
    ]
    created = TaskRun.objects.filter(pk__in=create(new_runs), status=RunStatus.SKIPPED)
    return [
        Ended(
            run.pk, run.task_id, cast("int", run.root_id), run.status, run.scheduled_for
        )
        for run in created
    ]


def _take_turns(root_ids: Iterable[int]) -> None:
    if lock := dialect().lock:
        ids = sorted(root_ids)
        marks = ", ".join(["%s"] * len(ids))
        fetch(
            "SELECT id FROM tasks_app_taskrun"
            f" WHERE id IN ({marks}) ORDER BY id {lock}",
            *ids,
        )


def _child_run(end: Ended, child_id: int) -> NewRun | None:
    decision = join_decision(_parent_states(end, child_id))
    if decision.action == "wait":
        return None
    child = Task.objects.get(pk=child_id)
    if child.status != TaskStatus.ACTIVE:
        decision = JoinDecision("skip", f"the task is {child.status}")
    version_id = TaskVersion.objects.values_list("id", flat=True).get(
        task=child, number=child.version
    )
    is_run = decision.action == "run"
    return NewRun(
        task_id=child.pk,
        version_id=version_id,
        trigger=Trigger.DEPENDENCY,
        queue=child.queue,
        status=RunStatus.QUEUED if is_run else RunStatus.SKIPPED,
        scheduled_for=end.scheduled_for,
        reason=decision.reason,
        start_deadline_seconds=child.start_deadline_seconds if is_run else None,
        root_id=end.root_id,
        parent_id=end.run_id,
    )


def _parent_states(end: Ended, child_id: int) -> Mapping[int, ParentState]:
    """The child's parents in this root run, and how each has ended so far.

    A parent that the root's task does not lead to has no run here, and is not
    waited for.
    """
    runs = TaskRun.objects.filter(Q(pk=end.root_id) | Q(root=end.root_id))
    statuses = dict(runs.values_list("task_id", "status"))
    root_task_id = runs.values_list("task_id", flat=True).get(pk=end.root_id)
    members = _workflow(root_task_id)
    edges = TaskDependency.objects.filter(child=child_id, parent__in=members)
    return {
        edge.parent_id: ParentState(
            edge.parent_name,
            cast("Condition", edge.condition),
            statuses.get(edge.parent_id),
        )
        for edge in edges.annotate(parent_name=F("parent__name"))
    }


def _workflow(root_task_id: int) -> set[int]:
    """The ids of a task and of all its descendants."""
    rows = fetch(
        """
        WITH RECURSIVE workflow(id) AS (
            SELECT CAST(%s AS bigint)
            UNION
            SELECT child_id FROM tasks_app_taskdependency
            JOIN workflow ON parent_id = workflow.id)
        SELECT id FROM workflow
        """,
        root_task_id,
    )
    return {row[0] for row in rows}
