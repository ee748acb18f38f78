"""Makes a history: millions of finished runs, as a year of work would leave them.

The rows are made by the database itself, month by month. Each figure of a run is drawn
from a hash of its number, so that two histories of one size are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from scheduler_project.bench.burst import definition
from tasks_app import ledger
from tasks_app.models import Project, Task, TaskVersion
from tasks_app.rules.run_ids import IDS_PER_DAY, first_id
from workers_app.models import WorkerInfo

DAYS = 395
"""Thirteen months."""
PROJECTS, TASKS, WORKERS = 12, 500, 40
QUEUES = ("default", "default", "etl", "mail", "reports")
RARE_QUEUE, RARE_TASK = "gpu", TASKS - 20
"""A queue with one task, which runs seldom."""
RETIRED_TASKS = range(440, 450)
"""They stopped in the third month, as did their project and one worker."""
OLD_PROJECT, OLD_WORKER = PROJECTS - 1, WORKERS - 1
UNFINISHED = 400
WITH_EVENTS = 1_000_000
"""So many of the newest runs have their two events."""
TABLE = "tasks_app_taskrun"
TABLES = (TABLE, "tasks_app_runevent", "tasks_app_runlog")
UNIQUE = {
    "fire": "(task_id, scheduled_for, shard_index) WHERE trigger = 'schedule'",
    "workflow": "(root_id, task_id, shard_index) WHERE trigger = 'dependency'",
}


def history_create(runs: int, tell: Callable[[str], None]) -> None:
    """Fill an empty PostgreSQL with `runs` runs of DAYS days, up to now; the newest
    UNFINISHED of them wait or run."""
    _definitions_create()
    now = ledger.database_now()
    step = timedelta(days=DAYS) / runs
    begin = now - timedelta(days=DAYS)
    made = 0
    values = {"runs": runs, "begin": begin, "step": step}
    with connection.cursor() as cursor:
        _lookups_create(cursor)
        _room_create(cursor, begin.date().replace(day=1))
        for month, end in _months(begin, now):
            last = runs if end == now else _last_before(end - begin, step)
            _month_create(cursor, month, {**values, "first": made + 1, "last": last})
            made = last
            tell(f"{made:,} of {runs:,} runs.")
        cursor.execute(_EVENTS, {"events": min(WITH_EVENTS, runs)})
        cursor.execute(_TALLIES)
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("VACUUM ANALYZE")


def _last_before(span: timedelta, step: timedelta) -> int:
    """The last run of a month: those below a root have the day of the root."""
    following = -(-span // step)
    return following - 1 + {1: 2, 2: 1}.get(following % 33, 0)


def _months(begin: datetime, now: datetime) -> Iterator[tuple[date, datetime]]:
    """The first day of each month, and the moment at which it is over."""
    month = begin.date().replace(day=1)
    while month <= now.date():
        following = (month + timedelta(days=32)).replace(day=1)
        yield month, min(now, datetime.combine(following, time(), UTC))
        month = following


# --- What runs ------------------------------------------------------------------------
def _definitions_create() -> None:
    """Projects, tasks with their schedules, and workers, in bulk."""
    now = ledger.database_now()
    projects = Project.objects.bulk_create(
        Project(name=f"project-{number}") for number in range(PROJECTS)
    )
    every = IntervalSchedule.objects.create(every=1, period="hours")
    schedules = PeriodicTask.objects.bulk_create(
        PeriodicTask(
            name=f"history-{number}",
            task="gnomon.doorbell",
            interval=every,
            start_time=now,
        )
        for number in range(TASKS)
    )
    tasks = Task.objects.bulk_create(
        Task(
            project=projects[_project_of(number)],
            name=f"task-{number:03}",
            executor="shell",
            command="true",
            queue=_queue_of(number),
            schedule=schedule,
            next_fire_at=now + timedelta(hours=1, seconds=number),
        )
        for number, schedule in enumerate(schedules)
    )
    TaskVersion.objects.bulk_create(
        TaskVersion(task=task, number=1, definition=definition(task), created_at=now)
        for task in tasks
    )
    WorkerInfo.objects.bulk_create(
        WorkerInfo(
            name=f"worker-{number:02}",
            status="offline" if number == OLD_WORKER else "online",
            last_heartbeat=now,
            started_at=now,
            max_tasks=64,
            queues=[*dict.fromkeys(QUEUES), RARE_QUEUE],
        )
        for number in range(WORKERS)
    )


def _project_of(number: int) -> int:
    return OLD_PROJECT if number in RETIRED_TASKS else number % OLD_PROJECT


def _queue_of(number: int) -> str:
    return RARE_QUEUE if number == RARE_TASK else QUEUES[number % len(QUEUES)]


def _lookups_create(cursor: Any) -> None:
    """What the big statement looks things up in."""
    cursor.execute(
        """
        CREATE TEMP TABLE history_task AS
        SELECT row_number() OVER (ORDER BY t.id) - 1 AS number, t.id, t.queue,
            v.id AS version_id
        FROM tasks_app_task t JOIN tasks_app_taskversion v ON v.task_id = t.id
        WHERE t.name LIKE 'task-%%';
        CREATE TEMP TABLE history_worker AS
        SELECT row_number() OVER (ORDER BY id) - 1 AS number, id
        FROM workers_app_workerinfo;
        CREATE FUNCTION pg_temp.draw(i bigint, seed int) RETURNS float
        LANGUAGE sql IMMUTABLE
        AS 'SELECT (hashint8extended(i, seed) & 1048575) / 1048576.0';
        ANALYZE history_task; ANALYZE history_worker
        """
    )


_RUNS = """
INSERT INTO {table} (
    id, task_id, version_id, trigger, triggered_by, trigger_reason, scheduled_for,
    status, reason, queue, lane, priority, admission, shard_index, shard_total, target,
    params, attempt, root_id, parent_id, rerun_of_id, worker_id, created_at, due_at,
    started_at, completed_at, lease_expires_at, exit_code, error, log_truncated)
SELECT
    n.day * {per_day} + n.i, t.id, t.version_id, n.trigger,
    CASE WHEN n.trigger IN ('api', 'admin', 'rerun') THEN 'user:ada' ELSE '' END,
    '', n.at, n.status, CASE WHEN n.status = 'skipped' THEN 'missed' ELSE '' END,
    t.queue, '', 5, 'free', 0, 1, '', '{{}}',
    CASE WHEN n.has_started THEN 1 ELSE 0 END,
    CASE WHEN n.link > 0 THEN n.day * {per_day} + n.i - n.link END,
    CASE WHEN n.link > 0 THEN n.day * {per_day} + n.i - n.link END,
    NULL, w.id, n.at, n.at,
    CASE WHEN n.has_started THEN n.started_at END,
    CASE WHEN n.status NOT IN ('queued', 'running')
        THEN n.started_at + n.took * interval '1 second' END,
    CASE WHEN n.status = 'running' THEN n.at + interval '1 day' END,
    CASE n.status WHEN 'succeeded' THEN 0 WHEN 'failed' THEN 1 END,
    CASE WHEN n.status = 'failed' THEN 'exit code 1: no such file' ELSE '' END, false
FROM (
    SELECT d.*, to_char(d.root_at AT TIME ZONE 'UTC', 'YYMMDD')::bigint AS day,
        d.at + (d.c * 2 + CASE WHEN d.c > 0.9999 THEN 10800 ELSE 0 END)
            * interval '1 second' AS started_at,
        5 + 600 * d.c * d.c AS took,
        d.status NOT IN ('queued', 'skipped', 'expired') AS has_started,
        CASE WHEN d.number BETWEEN 440 AND 449 AND d.share > 0.23
            THEN d.number - 100 ELSE d.number END AS task_number,
        CASE WHEN d.share < 0.2 AND d.c < 0.02 THEN 39
            ELSE floor(39 * d.b * d.b) END AS worker_number
    FROM (
        SELECT s.*, %(begin)s::timestamptz + s.i * %(step)s::interval AS at,
            %(begin)s::timestamptz + (s.i - s.link) * %(step)s::interval AS root_at,
            s.i / %(runs)s::float AS share,
            CASE WHEN s.link > 0 THEN 490 + s.link
                WHEN s.a > 0.99999 THEN 480
                ELSE floor(480 * power(s.b, 3)) END AS number,
            CASE WHEN s.link > 0 THEN 'dependency' WHEN s.a < 0.00002 THEN 'rerun'
                WHEN s.a < 0.004 THEN 'admin' WHEN s.a < 0.03 THEN 'api'
                WHEN s.a < 0.04 AND s.i < %(runs)s * 0.5 THEN 'backfill'
                ELSE 'schedule' END AS trigger,
            CASE WHEN s.i > %(runs)s - 300 THEN 'queued'
                WHEN s.i > %(runs)s - {unfinished} THEN 'running'
                WHEN s.d > 0.999 AND s.i BETWEEN %(runs)s * 0.30 AND %(runs)s * 0.31
                THEN 'lost'
                WHEN s.d < 0.93 THEN 'succeeded' WHEN s.d < 0.97 THEN 'failed'
                WHEN s.d < 0.972 THEN 'timed_out' WHEN s.d < 0.98 THEN 'cancelled'
                WHEN s.d < 0.9999 THEN 'skipped' ELSE 'expired' END AS status
        FROM (
            SELECT i, CASE WHEN i %% 33 IN (1, 2) THEN i %% 33 ELSE 0 END AS link,
                pg_temp.draw(i, 1) AS a, pg_temp.draw(i, 2) AS b,
                pg_temp.draw(i, 3) AS c, pg_temp.draw(i, 4) AS d
            FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i) s) d) n
JOIN history_task t ON t.number = n.task_number
LEFT JOIN history_worker w ON w.number = n.worker_number AND n.has_started
ORDER BY n.i
"""

_EVENTS = """
INSERT INTO tasks_app_runevent (run_id, at, kind, attempt, status, actor)
SELECT r.id, e.at, e.kind, r.attempt, e.status, ''
FROM (SELECT * FROM tasks_app_taskrun ORDER BY id DESC LIMIT %(events)s) r
CROSS JOIN LATERAL (VALUES ('created', r.created_at, 'queued'),
    ('finished', r.completed_at, r.status)) AS e(kind, at, status)
WHERE e.at IS NOT NULL
"""

_TALLIES = """
INSERT INTO tasks_app_runtally
    (hour, task_id, status, runs, run_seconds, wait_seconds, is_folded)
SELECT date_trunc('hour', completed_at, 'UTC'), task_id, status, count(*),
    COALESCE(SUM(EXTRACT(EPOCH FROM completed_at - started_at)), 0),
    COALESCE(SUM(EXTRACT(EPOCH FROM started_at - due_at)), 0), true
FROM tasks_app_taskrun WHERE completed_at IS NOT NULL GROUP BY 1, 2, 3
ORDER BY 1;
INSERT INTO tasks_app_hourtally (hour, status, runs)
SELECT hour, status, SUM(runs) FROM tasks_app_runtally GROUP BY 1, 2
"""


# --- Partitions -----------------------------------------------------------------------
def _room_create(cursor: Any, begin: date) -> None:
    """Have the first partitions, which hold what there is up to now, end before
    `begin`; and no checks of foreign keys, row by row."""
    cursor.execute("SET session_replication_role = replica")
    cursor.execute("SET maintenance_work_mem = '512MB'")
    for table in TABLES:
        first = f"{table}_first"
        cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {first}")
        cursor.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {first}"
            f" FOR VALUES FROM (MINVALUE) TO ({first_id(begin)})"
        )


def _month_create(cursor: Any, month: date, values: Mapping[str, Any]) -> None:
    """A month's partitions. That of the runs is filled before it gets its indexes."""
    end = (month + timedelta(days=32)).replace(day=1)
    for table in TABLES:
        leaf = f"{table}_{month:%Y%m}"
        cursor.execute(
            f"CREATE TABLE {leaf} (LIKE {table} INCLUDING DEFAULTS"
            " INCLUDING CONSTRAINTS)"
        )
        if table == TABLE:
            cursor.execute(
                _RUNS.format(table=leaf, per_day=IDS_PER_DAY, unfinished=UNFINISHED),
                values,
            )
            for name, columns in UNIQUE.items():
                cursor.execute(f"CREATE UNIQUE INDEX {leaf}_{name} ON {leaf} {columns}")
        cursor.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {leaf}"
            f" FOR VALUES FROM ({first_id(month)}) TO ({first_id(end)})"
        )
