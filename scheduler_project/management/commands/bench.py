"""`manage.py bench`: how fast the platform is here, beside the stock way."""

from __future__ import annotations

import signal
import tempfile
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from kombu.exceptions import OperationalError
from rich.console import Console

from scheduler_project.bench import report
from scheduler_project.bench.latency import latency
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig, broker_name
from scheduler_project.bench.throughput import STOCK_PART, throughput
from scheduler_project.local import embedded
from scheduler_project.local.bootstrap import admin_create, migrate
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.lock import lock
from scheduler_project.local.output import LogFile
from scheduler_project.local.platform import use_database
from scheduler_project.local.supervisor import Supervisor
from tasks_app.signals import runs_ready

EMBEDDED = "embedded"
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
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        # The backlog is for beat to ring for; this process rings for nothing.
        runs_ready.disconnect(dispatch_uid="workers_app.ring")
        self.progress = Console(stderr=True, highlight=False)
        with tempfile.TemporaryDirectory(prefix="gnomon-bench-") as directory:
            rows = self._measured(Path(directory), options)
        console = Console(highlight=False)
        width = None if console.is_terminal else TABLE_COLUMNS
        console.print(report.table(rows), width=width)
        if options["json"]:
            options["json"].write_text(report.as_json(rows))

    def _measured(self, directory: Path, options: dict[str, Any]) -> list[Row]:
        with closing(LogFile(directory / "services.log")) as log:
            try:
                return list(self._rows(directory, log, options))
            except (PlatformError, OperationalError, OSError) as error:
                for line in log.tail:
                    self.progress.print(f"  {line}", markup=False)
                raise CommandError(f"The bench has failed: {error}.") from error
            except KeyboardInterrupt:
                raise CommandError("The bench was interrupted.") from None
            finally:
                connections.close_all()

    def _rows(
        self, directory: Path, log: LogFile, options: dict[str, Any]
    ) -> Iterator[Row]:
        """Start the servers and measure with one broker after another."""
        with lock(directory) as descriptor, Supervisor(log) as servers:
            self.progress.print("Starting PostgreSQL ...")
            server = embedded.postgresql(directory / "postgres", descriptor)
            database_url = embedded.start(servers, server)
            use_database(database_url)
            migrate()
            password = admin_create() or ""
            for broker in options["broker_url"] or [EMBEDDED]:
                broker_url, name = broker, broker_name(broker)
                if broker == EMBEDDED:
                    server = embedded.valkey(directory / "valkey", descriptor)
                    broker_url, name = embedded.start(servers, server), "Valkey"
                rig = Rig(directory, database_url, broker_url, log)
                yield from self._with_broker(rig, name, password, options)
            connections.close_all()

    def _with_broker(
        self, rig: Rig, broker: str, password: str, options: dict[str, Any]
    ) -> Iterator[Row]:
        runs, rounds = options["runs"], options["rounds"]
        self._tell(
            f"{broker}: {rounds} rounds of {runs} runs; the stock way gets"
            f" {max(1, runs // STOCK_PART)} of them, for its rate is what counts."
        )
        rates = throughput(
            rig,
            runs=runs,
            rounds=rounds,
            workers=options["workers"],
            tell=self._tell,
        )
        yield report.throughput_row(broker, rates)
        self._tell(f"{broker}: {options['latency_runs']} runs on an idle platform.")
        delays = latency(rig, runs=options["latency_runs"], password=password)
        self._tell(f"They were triggered {delays.way}.")
        yield from report.latency_rows(broker, delays)

    def _tell(self, text: str) -> None:
        self.progress.print(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)
