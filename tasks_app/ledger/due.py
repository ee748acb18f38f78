"""The tasks that are due, as the planner reads them: values, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from tasks_app.ledger.dialects import as_json, as_time, dialect
from tasks_app.ledger.overlapping import Policy, policy_columns
from tasks_app.ledger.plans import fetch_planned
from tasks_app.rules.schedules import Schedule, stored_schedule


@dataclass(frozen=True, slots=True)
class DueTask:
    """What of a task decides about its fires. `version_id` is its current version's,
    `has_calendars` says whether it or its project has a blackout calendar."""

    id: int
    version_id: int
    queue: str
    misfire: str
    jitter_seconds: int
    start_deadline_seconds: int | None
    next_fire_at: datetime | None
    has_calendars: bool
    schedule: Schedule | None


@dataclass(frozen=True, slots=True)
class Due:
    """Tasks that were due at `now`, by the database's clock, with their policies about
    new runs; their rows are locked."""

    now: datetime
    tasks: list[DueTask]
    policies: list[Policy]


_POLICY_COLUMNS = len(fields(Policy))


def due_tasks(limit: int, task_ids: Sequence[int] | None) -> Due | None:
    """Lock and read up to `limit` due tasks, all or of the given ones, by their cursor
    and then by priority; None if none is due. In the caller's transaction. Rows that
    another planner holds are passed over, and those that were changed between this
    statement's beginning and their lock, for what hangs on them is read as it was then.
    """
    rows = _lock(limit, task_ids)
    if not rows:
        return None
    policies = [Policy(*row[1 : 1 + _POLICY_COLUMNS]) for row in rows]
    tasks = [
        _due_task(policy, *row[1 + _POLICY_COLUMNS :])
        for policy, row in zip(policies, rows, strict=True)
    ]
    return Due(as_time(rows[0][0]), tasks, policies)


def _lock(limit: int, task_ids: Sequence[int] | None) -> list[tuple[Any, ...]]:
    """What is locked is then looked up by its keys: a kept plan does not know how few
    rows these are, and would rather join all tasks."""
    sql = dialect()
    chosen = "" if task_ids is None else f"AND t.id IN ({sql.ids()})"
    params = [] if task_ids is None else [as_json(task_ids)]
    now, cursor, at, start_at, end_at = (
        sql.as_read(column, "time")
        for column in (
            *("(SELECT at FROM this)", "t.next_fire_at"),
            *("o.clocked_time", "s.start_time", "s.expires"),
        )
    )
    return fetch_planned(
        f"""
        WITH this AS MATERIALIZED (SELECT {sql.now} AS at),
        locked AS MATERIALIZED (
            SELECT t.id, t.{sql.row_version} AS row_version
            FROM tasks_app_task t
            WHERE t.status = 'active' AND t.next_fire_at <= (SELECT at FROM this)
            {chosen}
            ORDER BY t.next_fire_at, t.priority DESC, t.id LIMIT {limit:d}
            {sql.skip_locked_task}),
        t AS MATERIALIZED (
            SELECT t.id, t.project_id, t.version, t.queue, t.misfire, t.jitter_seconds,
                t.start_deadline_seconds, t.next_fire_at, t.timezone, t.schedule_id,
                t.priority, t.overlap, t.max_concurrency, t.max_queued, t.placement,
                t.match, t.{sql.row_version} AS row_version
            FROM tasks_app_task t WHERE t.id {sql.one_of("SELECT id FROM locked")})
        SELECT {now}, {policy_columns()}, v.id, t.misfire, t.jitter_seconds,
            t.start_deadline_seconds, {cursor},
            EXISTS (SELECT 1 FROM tasks_app_task_calendars c WHERE c.task_id = t.id)
            OR EXISTS (SELECT 1 FROM tasks_app_project_calendars c
                WHERE c.project_id = t.project_id),
            c.minute || ' ' || c.hour || ' ' || c.day_of_month || ' '
                || c.month_of_year || ' ' || c.day_of_week,
            t.timezone, i.period, i.every, {at}, {start_at}, {end_at}
        FROM t
        JOIN locked ON locked.id = t.id AND locked.row_version = t.row_version
        LEFT JOIN tasks_app_taskversion v
            ON v.task_id = t.id AND v.number = t.version
        LEFT JOIN django_celery_beat_periodictask s ON s.id = t.schedule_id
        LEFT JOIN django_celery_beat_crontabschedule c ON c.id = s.crontab_id
        LEFT JOIN django_celery_beat_intervalschedule i ON i.id = s.interval_id
        LEFT JOIN django_celery_beat_clockedschedule o ON o.id = s.clocked_id
        ORDER BY t.next_fire_at, t.priority DESC, t.id
        """,
        *params,
    )


def _due_task(policy: Policy, *columns: Any) -> DueTask:
    version_id, misfire, jitter, patience, cursor, has_calendars, *rest = columns
    cron, timezone, period, every, *times = rest
    at, start_at, end_at = (as_time(value) for value in times)
    interval = timedelta(**{period: every}) if period else None
    return DueTask(
        id=policy.task_id,
        version_id=version_id,
        queue=policy.queue,
        misfire=misfire,
        jitter_seconds=jitter,
        start_deadline_seconds=patience,
        next_fire_at=as_time(cursor),
        has_calendars=bool(has_calendars),
        schedule=stored_schedule(cron, timezone, interval, at, start_at, end_at),
    )
