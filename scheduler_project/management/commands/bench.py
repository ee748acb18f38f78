"""`manage.py bench`: how fast the platform is here, beside its peers."""

from __future__ import annotations

import signal
import sys
import tempfile
import traceback
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from scheduler_project.bench import peers, report
from scheduler_project.bench.chart import svg
from scheduler_project.bench.machine import broker_version, commit, machine
from scheduler_project.bench.measurements import MEASUREMENTS, Measurement
from scheduler_project.bench.publish import publish
from scheduler_project.bench.report import Figures
from scheduler_project.bench.rig import Plan, Rig
from scheduler_project.bench.servers import Servers, servers
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.output import LogFile
from scheduler_project.local.supervisor import Supervisor
from tasks_app.signals import runs_ready

TABLE_COLUMNS = 140
"""Where no terminal sets the width."""
ALL = "all"
ANY_COUNT = -1
"""A flag without a count."""


class Command(BaseCommand):
    help = (
        "Measure on a PostgreSQL of the bench's own, and print each figure beside its"
        " target and its peer. A missed target is no error; a measurement that fails"
        " is one, and the others' figures are printed all the same."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        usual = ", ".join(each.name for each in MEASUREMENTS if each.is_usual)
        parser.add_argument(
            "measurements",
            nargs="*",
            metavar="MEASUREMENT",
            help=f"one of those below, or all (default: {usual})",
        )
        for each in MEASUREMENTS:
            _flag_add(parser, each)
        parser.add_argument(
            "--full", action="store_true", help="with the counts of the targets"
        )
        parser.add_argument(
            "--peers",
            action="store_true",
            help="install the peers that the product does not need, in an environment"
            " of their own under GNOMON_VAR; they are measured from then on",
        )
        parser.add_argument(
            "--broker-url",
            action="append",
            help="measure with this broker; may be repeated (default: an embedded"
            " Valkey, and RabbitMQ if one answers on this machine)",
        )
        for name, default, text in (
            ("--rounds", 2, "rounds of a comparison; their median counts"),
            ("--workers", 1, "worker processes of the platform"),
        ):
            parser.add_argument(
                name, type=_count, default=default, help=f"{text} (default: {default})"
            )
        for name, text in (
            ("--json", "write the figures to this file"),
            ("--svg", "draw the figures into this file"),
            ("--docs", "put the figures into the documents of this folder"),
        ):
            parser.add_argument(name, type=Path, help=text)

    def handle(self, *_args: Any, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        # The workers find the backlog; this process wakes nobody.
        runs_ready.disconnect(dispatch_uid="workers_app.ring")
        self.progress = Console(stderr=True, highlight=False, soft_wrap=True)
        self.failures: list[str] = []
        self.machine: dict[str, object] = {}
        self.figures: list[Figures] = []
        chosen = _chosen(options)
        with tempfile.TemporaryDirectory(prefix="gnomon-bench-") as directory:
            self._measure(Path(directory), chosen, options)
        self._show(options)
        if self.failures:
            raise CommandError(f"The bench has failed: {'; '.join(self.failures)}")

    def _show(self, options: dict[str, Any]) -> None:
        figures = [each for each in self.figures if each.rows]
        width = None if sys.stdout.isatty() else TABLE_COLUMNS
        Console(width=width, highlight=False).print(report.table(figures))
        if options["json"]:
            options["json"].write_text(report.as_json(self.machine, figures))
        if options["svg"]:
            options["svg"].write_text(svg(figures))
        if options["docs"]:
            publish(options["docs"], self.machine, figures)

    def _measure(
        self, directory: Path, chosen: list[Measurement], options: dict[str, Any]
    ) -> None:
        """What is found is kept, also if something fails or the bench is stopped."""
        with (
            closing(LogFile(directory / "services.log")) as self.log,
            servers(directory, self.log) as started,
        ):
            try:
                self._tell("Starting PostgreSQL ...")
                started.start_database()
                if options["peers"]:
                    self._peers_install()
                self.machine = machine()
                for number, rig in enumerate(self._rigs(started, options)):
                    for each in chosen:
                        if each.is_of_broker or number == 0:
                            self._measure_one(each, rig, options)
            except KeyboardInterrupt:
                self.failures.append("it was interrupted")
            except PlatformError as error:
                self._failed("the bench", error)

    def _peers_install(self) -> None:
        self._tell("Installing the peers ...")
        try:
            with Supervisor(self.log) as services:
                peers.install(services)
        except PlatformError as error:
            self._failed("the installation of the peers", error)

    def _rigs(self, started: Servers, options: dict[str, Any]) -> Iterator[Rig]:
        """A rig on one broker after another."""
        plan = Plan(options["rounds"], options["workers"], self._tell)
        for broker_url in options["broker_url"] or started.broker_urls():
            try:
                rig = started.rig(broker_url)
            except PlatformError as error:
                self._failed("a broker", error)
                continue
            rig.plan = plan
            self.machine[rig.broker] = broker_version(rig.broker_url)
            yield rig

    def _measure_one(
        self, measurement: Measurement, rig: Rig, options: dict[str, Any]
    ) -> None:
        """The rows that came before a failure count."""
        broker = rig.broker if measurement.is_of_broker else ""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        figures = Figures(measurement.name, broker, at, commit())
        self.figures.append(figures)
        self._tell(f"{figures.title} ...")
        given = options[measurement.name]
        count = None if given == ANY_COUNT else given
        try:
            # One by one: what came before a failure is kept.
            for row in measurement.rows(rig, count, is_full=options["full"]):
                figures.rows.append(row)
        except Exception as error:  # noqa: BLE001 - one's fault costs no other's figures
            self._failed(figures.title, error)

    def _failed(self, what: str, error: Exception) -> None:
        for line in tuple(self.log.tail):  # services go on writing
            self.progress.print(f"  {line}", markup=False)
        if not isinstance(error, PlatformError):
            self.progress.print(
                "".join(traceback.format_exception(error)), markup=False
            )
        reason = str(error) or type(error).__name__
        self._tell(f"{what} failed: {reason}")
        self.failures.append(f"{what}: {reason}")

    def _tell(self, text: str) -> None:
        self.progress.print(text, markup=False)


def _flag_add(parser: ArgumentParser, measurement: Measurement) -> None:
    """`--NAME`, or `--NAME N` for one that counts something."""
    name, about = f"--{measurement.name}", f"measure {measurement.about}"
    if not measurement.counts:
        parser.add_argument(name, action="store_const", const=ANY_COUNT, help=about)
        return
    counts = f"{measurement.count} {measurement.counts}, {measurement.full} with --full"
    parser.add_argument(
        name,
        nargs="?",
        type=_count,
        const=ANY_COUNT,
        metavar=measurement.counts.upper(),
        help=f"{about} ({counts})",
    )


def _chosen(options: dict[str, Any]) -> list[Measurement]:
    """The measurements that are named, in the table's order.

    Raises:
        CommandError: there is none of a name.
    """
    named = set(options["measurements"])
    known = {each.name for each in MEASUREMENTS}
    if unknown := named - known - {ALL}:
        raise CommandError(
            f"there is no measurement {', '.join(sorted(unknown))}: name some of"
            f" {', '.join(sorted(known))}, or all"
        )
    there = [each for each in MEASUREMENTS if each.is_there]
    if ALL in named:
        return there
    named |= {name for name in known if options[name]}
    if missing := named - {each.name for each in there}:
        raise CommandError(
            f"this version has no measurement {', '.join(sorted(missing))}"
        )
    if not named:
        return [each for each in there if each.is_usual]
    return [each for each in there if each.name in named]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)
