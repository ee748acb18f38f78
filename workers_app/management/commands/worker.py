"""`manage.py worker`: a worker without the rest of Celery's command line.

The same worker as `celery -A scheduler_project worker`, 15 MB smaller: the celery
command loads every plugin and prompt_toolkit.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Run a worker: claims runs and executes them until it is told to stop."
    requires_system_checks = []  # they load every page; `make check` does them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", help="its name (default: celery@<host>)")
        parser.add_argument(
            "--concurrency",
            type=int,
            default=settings.WORKER_CONCURRENCY,
            help="runs that it holds at a time (default: WORKER_CONCURRENCY)",
        )
        parser.add_argument(
            "--queues",
            default=",".join(settings.WORKER_QUEUES),
            help="the queues it serves, by comma (default: WORKER_QUEUES)",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        worker = current_app.Worker(
            hostname=options["name"],
            concurrency=options["concurrency"],
            queues=options["queues"].split(","),
            loglevel=logging.getLogger().getEffectiveLevel(),
            without_gossip=True,
            without_mingle=True,
            quiet=True,  # the banner; the start is logged
        )
        worker.start()
        raise SystemExit(worker.exitcode or 0)
