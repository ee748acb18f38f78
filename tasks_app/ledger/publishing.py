"""Whose doorbell is to be rung: the row is the outbox, a message only a hint."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import transaction

from tasks_app.choices import RunStatus
from tasks_app.ledger.dialects import as_json, as_time, dialect, fetch
from tasks_app.ledger.records import Doorbell


def publish(limit: int, run_ids: Sequence[int] | None = None) -> list[Doorbell]:
    """Take the runs whose doorbell is to be rung now, and note that it is being rung.

    A queued run is due for its first doorbell at `due_at`, and for another one, in
    case the message was lost, REDISPATCH_SECONDS later, doubling up to
    REDISPATCH_MAX_SECONDS. The caller sends the messages after this has committed;
    if it dies before, the next doorbell covers for it.

    Args:
        limit: at most so many runs, the longest due first.
        run_ids: only of these runs.
    """
    sql = dialect()
    among = "" if run_ids is None else f"AND id IN ({sql.ids()})"
    params = [] if run_ids is None else [as_json(run_ids)]
    backoff = f"{sql.least}(%s, %s * (1 << {sql.least}(publish_count, 20)))"
    rows = fetch(
        f"""
        UPDATE tasks_app_taskrun SET
            published_at = {sql.now},
            publish_count = publish_count + 1,
            next_publish_at = {sql.later(backoff)}
        WHERE id IN (
            SELECT id FROM tasks_app_taskrun
            WHERE status = %s AND next_publish_at <= {sql.now} {among}
            ORDER BY next_publish_at LIMIT %s {sql.skip_locked})
        AND status = %s AND next_publish_at <= {sql.now}
        RETURNING id, queue, due_at
        """,
        settings.REDISPATCH_MAX_SECONDS,
        settings.REDISPATCH_SECONDS,
        RunStatus.QUEUED,
        *params,
        limit,
        RunStatus.QUEUED,
    )
    rows.sort(key=lambda row: (row[2], row[0]))
    return [Doorbell(run_id, queue) for run_id, queue, _due_at in rows]


def unpublish(run_ids: Sequence[int]) -> None:
    """Take a doorbell back that is known not to have been sent: ring again soon."""
    sql = dialect()
    fetch(
        f"""
        UPDATE tasks_app_taskrun SET
            publish_count = publish_count - 1, next_publish_at = {sql.later("1")}
        WHERE id IN ({sql.ids()}) AND status = %s AND publish_count > 0
        """,
        as_json(run_ids),
        RunStatus.QUEUED,
    )


def next_publish_at() -> datetime | None:
    """When `publish` has work next: the earliest due or overdue doorbell."""
    with transaction.atomic():
        ((earliest,),) = fetch(
            "SELECT MIN(next_publish_at) FROM tasks_app_taskrun WHERE status = %s",
            RunStatus.QUEUED,
        )
    return as_time(earliest)  # type: ignore[no-any-return]
