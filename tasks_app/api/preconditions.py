"""Entity tags: `If-None-Match` saves an answer, `If-Match` guards a change.

A tag is `W/"<version>-<changed>-<state>"`. A change is guarded by the first two, the
definition; the third follows what moves by itself: the cursor and the last run.
"""

from __future__ import annotations

import re
import zlib

from rest_framework.request import Request

from tasks_app.errors import VersionMismatch
from tasks_app.models import Task

_TAG = re.compile(r'(?:W/)?"([^"]*)"')
_DEFINITION_PARTS = 2


def etag(task: Task) -> str:
    """The tag of a task that has its `last_run`."""
    run = getattr(task, "last_run", None)
    state = (task.next_fire_at, run and (run.pk, run.status, run.started_at))
    return f'W/"{_definition(task)}-{zlib.crc32(repr(state).encode()):08x}"'


def _definition(task: Task) -> str:
    return f"{task.version}-{int(task.updated_at.timestamp() * 1_000_000):x}"


def is_unchanged(request: Request, tag: str) -> bool:
    """Whether the caller has this representation already (RFC 9110, 13.1.2)."""
    given = request.headers.get("If-None-Match", "")
    return given.strip() == "*" or tag.removeprefix("W/").strip('"') in _TAG.findall(
        given
    )


def check_if_match(request: Request, task: Task) -> None:
    """Compares weakly; `W/"3"` stands for version 3, whenever it was written.

    Raises:
        VersionMismatch: the task is not what the caller has seen.
    """
    given = request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        return
    parts = _definition(task).split("-")
    for tag in _TAG.findall(given):
        seen = tag.split("-")[:_DEFINITION_PARTS]
        if seen == parts[: len(seen)]:
            return
    raise VersionMismatch
