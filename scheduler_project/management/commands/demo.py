"""`manage.py demo`: run the demo tasks to their ends, and say how they ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from rich.console import Console

from scheduler_project.local.bootstrap import migrate
from scheduler_project.local.demo import RunRow, is_over, problems, run_rows, table
from scheduler_project.local.demo_tasks import DemoTask, demo_tasks_create
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.output import LogFile
from scheduler_project.local.platform import Addresses, Platform, platform
from scheduler_project.local.ports import free_port
from scheduler_project.local.supervisor import Supervisor
from tasks_app.models import TaskRun
from workers_app.models import WorkerInfo

DEADLINE_SECONDS = 90.0
"""The cron task alone may wait 60 s for its minute."""
WORKER_SECONDS = 30.0
POLL_SECONDS = 0.2
TABLE_COLUMNS = 130
"""Where no terminal sets the width."""


class Command(BaseCommand):
    help = (
        "Start the platform on a throw-away directory, run the demo tasks to their"
        " ends, and print what happened. Exits with 0 only if all is as expected."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--db",
            choices=["sqlite", "postgres"],
            default="sqlite",
            help="the embedded database (default: %(default)s)",
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        self.progress = Console(stderr=True, highlight=False)
        descriptor, name = tempfile.mkstemp(prefix="gnomon-demo-", suffix=".log")
        os.close(descriptor)
        with closing(LogFile(Path(name))) as log:
            try:
                found = self._demo(log, options)
            except PlatformError as error:
                found = [f"{error}."]
            except KeyboardInterrupt:
                found = ["It was interrupted."]
        if found:
            self._show(log)
            raise CommandError("\n".join(["The demo has failed.", *found]))
        log.path.unlink()

    def _demo(self, log: LogFile, options: dict[str, Any]) -> list[str]:
        """Run the tasks, print the table, and return what was not as expected."""
        addresses = Addresses(embedded_database=options["db"])
        with (
            tempfile.TemporaryDirectory(prefix="gnomon-demo-") as directory,
            self.progress.status("Starting the platform ..."),
            platform(Path(directory), addresses, log) as running,
        ):
            demos = self._start(running)
            rows, is_in_time = self._observe(running.supervisor, demos)
            connections.close_all()
        found = list(problems(demos, rows))
        if not is_in_time:
            found.insert(0, f"Not all was over after {DEADLINE_SECONDS:g} s.")
        self._print(rows, found, is_json=options["json"])
        return found

    def _start(self, running: Platform) -> Sequence[DemoTask]:
        began = time.monotonic()
        url = running.start_web(free_port())
        migrate()
        running.start_work()
        running.wait_until_ready(url)
        running.supervisor.wait_until(_has_worker, "worker", WORKER_SECONDS)
        self.progress.print(f"Platform ready after {time.monotonic() - began:.1f} s.")
        return demo_tasks_create(url)

    def _observe(
        self, supervisor: Supervisor, demos: Sequence[DemoTask]
    ) -> tuple[list[RunRow], bool]:
        """Wait for the runs; returns them, and whether all were over in time."""
        began = time.monotonic()
        self.progress.print(
            "Running the demo tasks; the cron task waits for a full minute."
        )
        told: set[int] = set()
        while time.monotonic() < began + DEADLINE_SECONDS:
            supervisor.wait(POLL_SECONDS)
            ended = [row for row in run_rows() if row.is_over]
            for row in ended:
                if row.run not in told:
                    seconds = time.monotonic() - began
                    self.progress.print(f"{seconds:5.1f} s  {row.task} {row.status}")
            told = {row.run for row in ended}
            if is_over(demos, ended) and not TaskRun.objects.unfinished().exists():
                return run_rows(), True
        return run_rows(), False

    def _print(
        self, rows: Sequence[RunRow], found: Sequence[str], *, is_json: bool
    ) -> None:
        if is_json:
            runs = [asdict(row) for row in rows]
            report = {"ok": not found, "problems": found, "runs": runs}
            self.stdout.write(json.dumps(report, indent=2))
        else:
            width = None if sys.stdout.isatty() else TABLE_COLUMNS
            Console(width=width, highlight=False).print(table(rows))

    def _show(self, log: LogFile) -> None:
        self.progress.print(f"The services' last lines (all: {log.path}):")
        for line in log.tail:
            self.progress.print(f"  {line}", markup=False)


def _has_worker() -> bool:
    return WorkerInfo.objects.alive().exists()
