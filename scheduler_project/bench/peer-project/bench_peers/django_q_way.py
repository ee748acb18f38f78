"""django-q2 with its broker and its results in the database.

`python -m bench_peers.django_q_way RUNS` enqueues a backlog.
"""

from __future__ import annotations

import sys

import django

from bench_peers import command_run


def run() -> int:
    return command_run()


def publish(runs: int) -> None:
    """Enqueue `runs` tasks, and have the database stamp the moment that saves each
    result: django-q2 notes only when the task itself was over."""
    from django.db import connection  # noqa: PLC0415 - after Django's setup
    from django_q.tasks import async_task  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE django_q_task ADD COLUMN IF NOT EXISTS"
            " saved_at timestamptz DEFAULT clock_timestamp()"
        )
    for _ in range(runs):
        async_task("bench_peers.django_q_way.run")


if __name__ == "__main__":
    django.setup()
    publish(int(sys.argv[1]))
