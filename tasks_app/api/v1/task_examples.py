"""Examples of tasks for the OpenAPI document."""

from __future__ import annotations

from tasks_app.api.docs import example

CREATE = [
    example(
        "A nightly backup",
        {
            "name": "backup-db",
            "executor": "shell",
            "command": "/opt/jobs/backup.sh --full",
            "schedule": {"cron": "0 3 * * *", "timezone": "Asia/Shanghai"},
            "timeout_seconds": 1800,
            "delivery": "at_least_once",
            "retry": {"max_attempts": 3, "initial_seconds": 30, "max_seconds": 600},
        },
        request=True,
    ),
    example(
        "A health check each minute",
        {
            "name": "ping-shop",
            "executor": "http",
            "command": "https://shop.example/health",
            "schedule": {"interval_seconds": 60},
        },
        request=True,
    ),
    example(
        "One at a time, on a worker with a GPU",
        {
            "name": "train",
            "executor": "shell",
            "command": "/opt/jobs/train.sh",
            "schedule": {"cron": "@hourly", "jitter_seconds": 300},
            "overlap": "skip",
            "priority": 7,
            "rate_limit": {"runs": 10, "per_seconds": 3600},
            "match": "gpu and not spot",
            "pause_after_failures": 5,
            "retention_days": 30,
        },
        request=True,
    ),
    example(
        "After another task",
        {
            "name": "report",
            "executor": "shell",
            "command": "/opt/jobs/report.sh",
            "depends_on": [{"task": "backup-db"}],
        },
        request=True,
    ),
]

UPDATE = [
    example("An hour later", {"schedule": {"cron": "0 4 * * *"}}, request=True),
    example("No schedule any more", {"schedule": None}, request=True),
    example(
        "Three attempts",
        {"delivery": "at_least_once", "retry": {"max_attempts": 3}},
        request=True,
    ),
]

TRIGGER = [
    example(
        "With a parameter",
        {"params": {"DAY": "2026-11-24"}, "reason": "before the migration"},
        request=True,
    )
]

RESUME = [example("What would happen?", {"dry_run": True}, request=True)]

RERUN = [
    example("From what failed", {"from": "failed"}, request=True),
]
