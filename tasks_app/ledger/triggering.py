"""What a trigger reads of a task.

By a statement of its own: to make that of a queryset, and objects of what it finds,
takes the web service as long as all else that it does for a trigger.
"""

from __future__ import annotations

from django.db import connection

from tasks_app.choices import TaskStatus
from tasks_app.ledger.dialects import fetch
from tasks_app.models import Project, Task

_READ = (
    "id",
    "name",
    "status",
    "queue",
    "start_deadline_seconds",
    "max_attempts",
    "version",
)


def tasks_to_run(
    *, pk: int | None = None, name: str = "", project: str | None = None
) -> list[tuple[Task, int]]:
    """The existing task of that id, or those of that name, two at the most, in that
    project or in any. Each with the id of its current version; it has what a trigger
    and its answer read, and its project's name."""
    named, key = ("t.name", name) if pk is None else ("t.id", pk)
    rows = fetch(
        f"""
        SELECT v.id, p.id, p.name, {", ".join(f"t.{each}" for each in _READ)}
        FROM tasks_app_task t
        JOIN tasks_app_taskversion v ON v.task_id = t.id AND v.number = t.version
        JOIN tasks_app_project p ON p.id = t.project_id
        WHERE {named} = %s AND t.status <> '{TaskStatus.DELETED}'
        {"" if project is None else "AND p.name = %s"}
        LIMIT 2
        """,
        key,
        *([] if project is None else [project]),
    )
    return [(_task(row[1:3], row[3:]), row[0]) for row in rows]


def _task(project: tuple[object, ...], values: tuple[object, ...]) -> Task:
    alias = connection.alias
    task = Task.from_db(alias, _READ, values)
    task.project = Project.from_db(alias, ("id", "name"), project)
    return task
