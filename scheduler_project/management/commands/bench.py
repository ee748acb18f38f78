"""`manage.py bench`: how fast the platform is here, beside the stock way."""

from __future__ import annotations

import signal
import sys
import tempfile
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError
from rich.console import Console

from scheduler_project.bench import report
from scheduler_project.bench.latency import latency
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig
from scheduler_project.bench.servers import Servers, servers
from scheduler_project.bench.throughput import STOCK_PART, throughput
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.output import LogFile
from tasks_app.signals import runs_ready

TABLE_COLUMNS = 140
"""Where no terminal sets the width."""


class Command(BaseCommand):
    help = (
        "Measure runs per second beside a plain Celery task, and how soon a triggered"
        " run starts, on a PostgreSQL of the bench's own. A missed target is no error."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--broker-url",
            action="append",
            help="measure with this broker; may be repeated (default: an embedded one)",
        )
        counts = {
            "--runs": (3000, "runs of a throughput round"),
            "--rounds": (2, "throughput rounds; their median counts"),
            "--workers": (1, "worker processes of the platform"),
            "--latency-runs": (200, "runs that are triggered one by one"),
        }
        for name, (default, text) in counts.items():
            parser.add_argument(
                name, type=_count, default=default, help=f"{text} (default: {default})"
            )
        parser.add_argument("--json", type=Path, help="write the figures to this file")

    def handle(self, *_args: Any, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        # The backlog is for beat to ring for; this process rings for nothing.
        runs_ready.disconnect(dispatch_uid="workers_app.ring")
        self.progress = Console(stderr=True, highlight=False, soft_wrap=True)
        with tempfile.TemporaryDirectory(prefix="gnomon-bench-") as directory:
            rows = self._measured(Path(directory), options)
        width = None if sys.stdout.isatty() else TABLE_COLUMNS
        Console(width=width, highlight=False).print(report.table(rows))
        if options["json"]:
            options["json"].write_text(report.as_json(rows))

    def _measured(self, directory: Path, options: dict[str, Any]) -> list[Row]:
        with (
            closing(LogFile(directory / "services.log")) as log,
            servers(directory, log) as started,
        ):
            try:
                return list(self._rows(started, options))
            except KeyboardInterrupt:
                raise CommandError("The bench was interrupted.") from None
            except (PlatformError, OperationalError, OSError) as error:
                for line in log.tail:
                    self.progress.print(f"  {line}", markup=False)
                raise CommandError(f"The bench has failed: {error}") from error

    def _rows(self, started: Servers, options: dict[str, Any]) -> Iterator[Row]:
        """Measure with one broker after another."""
        self._tell("Starting PostgreSQL ...")
        started.start_database()
        for broker_url in options["broker_url"] or [None]:
            yield from self._rows_of(started.rig(broker_url), options)

    def _rows_of(self, rig: Rig, options: dict[str, Any]) -> Iterator[Row]:
        runs, rounds = options["runs"], options["rounds"]
        self._tell(
            f"{rig.broker}: {rounds} x {runs} runs; the stock way gets"
            f" {max(1, runs // STOCK_PART)} of them, for its rate is what counts."
        )
        rates = throughput(
            rig, runs=runs, rounds=rounds, workers=options["workers"], tell=self._tell
        )
        yield report.throughput_row(rig.broker, rates)
        self._tell(f"{rig.broker}: {options['latency_runs']} runs, one by one.")
        delays = latency(rig, runs=options["latency_runs"])
        self._tell(f"They were triggered {delays.way}.")
        yield from report.latency_rows(rig.broker, delays)

    def _tell(self, text: str) -> None:
        self.progress.print(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)
