"""`manage.py chaos`: break a platform by all means; does it keep its word?"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scheduler_project.bench.servers import broker_check
from scheduler_project.chaos.arena import Arena
from scheduler_project.chaos.brokers import broker_url
from scheduler_project.chaos.mutants import MUTANTS
from scheduler_project.chaos.trial import Result, Trial, kinds
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.lock import lock
from tasks_app.signals import runs_ready

TABLE_COLUMNS = 140
"""Where no terminal sets the width."""
SHOWN = 50
"""Findings in the table; the JSON has all of them."""
TELL_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""
COULD_NOT_RUN = 2


class Command(BaseCommand):
    help = (
        "Start a platform of its own under load, kill, freeze and wipe its parts at"
        " random, then check that no fire and no run was lost or doubled. Touches"
        " nothing that it did not start. Exits 1 on a finding, 2 if it could not run."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=_count, default=60, help="of faults")
        parser.add_argument(
            "--seed", type=int, help="decides the faults (default: a new one)"
        )
        parser.add_argument(
            "--broker",
            default="valkey",
            help="valkey: an embedded one; rabbitmq: BROKER_URL, or the one of this"
            " machine; or the URL of one",
        )
        parser.add_argument("--beats", type=_count, default=2)
        parser.add_argument("--workers", type=_count, default=3)
        parser.add_argument(
            "--mutate",
            choices=sorted(MUTANTS),
            help="take a safeguard out of the product: there should be findings",
        )
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.add_argument(
            "--keep", action="store_true", help="keep the folder with logs and data"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        # The trial's own triggers ring for nothing: workers look for themselves.
        runs_ready.disconnect(dispatch_uid="workers_app.ring")
        seed = options["seed"]
        result = Result(
            seed=secrets.randbelow(10**6) if seed is None else seed,
            seconds=options["seconds"],
            broker=options["broker"].rpartition("@")[2],
            mutant=options["mutate"],
        )
        folder = Path(tempfile.mkdtemp(prefix="gnomon-chaos-"))
        is_clean = False
        try:
            self._try(folder, result, options)
            is_clean = not result.findings
        except KeyboardInterrupt:
            raise CommandError("Interrupted.", returncode=COULD_NOT_RUN) from None
        except (PlatformError, OperationalError, OSError) as error:
            message = f"The trial could not be run: {error}"
            raise CommandError(message, returncode=COULD_NOT_RUN) from error
        finally:
            if options["keep"] or not is_clean:
                self.stderr.write(f"Logs and data are in {folder}.")
            else:
                shutil.rmtree(folder, ignore_errors=True)
        self._report(result, is_json=options["json"])
        if result.findings:
            sys.exit(1)

    def _try(self, folder: Path, result: Result, options: dict[str, Any]) -> None:
        url = broker_url(options["broker"])
        if url is not None:
            broker_check(url)
        counts = {
            "beats": options["beats"],
            "workers": options["workers"],
            "own_broker": int(url is None),
        }
        with _progress() as tell, lock(folder) as descriptor:
            arena = Arena(folder, descriptor, counts, url, result.mutant)
            try:
                tell(f"Seed {result.seed}: starting the platform ...")
                arena.start()
                Trial(arena, folder, result, tell).run(counts)
            finally:
                tell("Stopping everything ...")
                arena.stop()

    def _report(self, result: Result, *, is_json: bool) -> None:
        if is_json:
            self.stdout.write(json.dumps(result.as_json(), indent=2))
            return
        console = Console(
            width=None if sys.stdout.isatty() else TABLE_COLUMNS, highlight=False
        )
        with console.capture() as captured:
            console.print(_table(result))
            for found in result.findings[:SHOWN]:
                text = f"{found.promise} {found.kind}: {found.text}"
                console.print(escape(text), soft_wrap=True)
            if len(result.findings) > SHOWN:
                console.print(f"... and {len(result.findings) - SHOWN} more.")
        self.stdout.write(captured.get())


def _table(result: Result) -> Table:
    mutant = f", without safeguard: {result.mutant}" if result.mutant else ""
    title = f"Seed {result.seed}, {result.seconds:g} s, {result.broker}{mutant}"
    table = Table("", "", title=title, title_justify="left", show_header=False)
    sections = {
        "Faults": result.faults,
        "Ended by themselves": result.own_ends,
        "Runs": result.runs,
    }
    for heading, counts in sections.items():
        for name, number in counts.items():
            table.add_row(f"{heading}: {name}", str(number))
        table.add_section()
    table.add_row("Attempts that left traces", str(result.jobs))
    table.add_row("Fires checked", str(result.checked.get("fires", 0)))
    table.add_row("Events checked", str(result.checked.get("events", 0)))
    table.add_row("Seconds to drain", f"{result.drain_seconds:.1f}")
    table.add_section()
    for (promise, kind), number in kinds(result.findings).items():
        table.add_row(f"Findings: {promise} {kind}", str(number))
    table.add_row("Findings", str(len(result.findings) or "none"))
    return table


@contextmanager
def _progress() -> Iterator[Any]:
    """Yields what takes a line of progress: shown in place at a terminal, elsewhere
    now and then."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(escape(text))
        return
    told = [float("-inf")]

    def tell(text: str) -> None:
        if time.monotonic() > told[0] + TELL_SECONDS:
            told[0] = time.monotonic()
            console.print(text, markup=False)

    yield tell


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)
