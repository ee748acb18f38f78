"""`manage.py ledger_verify`: whether the ledger has kept its promises."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from tasks_app.ledger.verifying import MEANINGS, Finding, Verifier

TABLE_COLUMNS = 160
"""Where no terminal sets the width."""
SHOWN = 1000
"""Findings that are kept and shown; all of them are counted."""
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
BAD_ARGUMENTS = 2


class Command(BaseCommand):
    help = (
        "Check expected fires against rows, and what the ledger records of each run"
        " against the promises. Exits 1 on any finding, 2 if it cannot check."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        moment = "a time such as 2026-07-01T00:00Z, or so long ago, such as 24h"
        parser.add_argument(
            "--since", type=_moment, help=f"{moment} (default: the beginning)"
        )
        parser.add_argument("--until", type=_moment, help=f"{moment} (default: now)")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *_args: Any, **options: Any) -> None:
        since, until = options["since"], options["until"]
        if since and until and since >= until:
            message = f"--since ({since}) is not before --until ({until})"
            raise CommandError(message, returncode=BAD_ARGUMENTS)
        counts: Counter[str] = Counter()
        kept: list[Finding] = []
        try:
            verifier = Verifier(since, until)
            for finding in _findings(verifier):
                counts[finding.kind] += 1
                if len(kept) < SHOWN:
                    kept.append(finding)
        except DatabaseError as error:
            message = f"the database does not answer: {str(error).strip()}"
            raise CommandError(message, returncode=BAD_ARGUMENTS) from error
        write = self._write_json if options["json"] else self._write_tables
        write(verifier, counts, kept)
        if kept:
            sys.exit(1)

    def _write_json(
        self, verifier: Verifier, counts: Counter[str], kept: list[Finding]
    ) -> None:
        document = {
            "since": verifier.since,
            "until": verifier.until,
            "checked": asdict(verifier.checked),
            "counts": dict(counts),
            "findings": [
                {"promise": MEANINGS[finding.kind][0], **asdict(finding)}
                for finding in kept
            ],
        }
        self.stdout.write(json.dumps(document, indent=2, cls=DjangoJSONEncoder))

    def _write_tables(
        self, verifier: Verifier, counts: Counter[str], kept: list[Finding]
    ) -> None:
        width = None if sys.stdout.isatty() else TABLE_COLUMNS
        console = Console(width=width, highlight=False)
        with console.capture() as captured:
            if kept:
                console.print(_findings_table(kept))
            if (more := counts.total() - len(kept)) > 0:
                console.print(f"... and {more} more.")
            for kind, count in counts.most_common():
                promise, meaning = MEANINGS[kind]
                console.print(f"{count} x {kind} ({promise}): {meaning}.")
            console.print(_summary(verifier, counts.total()))
        self.stdout.write(captured.get())


def _findings(verifier: Verifier) -> Iterator[Finding]:
    """All findings; at a terminal, with the progress through the tasks."""
    task_ids = verifier.task_ids()
    if sys.stderr.isatty():
        console = Console(stderr=True)
        tasks = track(task_ids, "Checking tasks", console=console, transient=True)
    else:
        tasks = iter(task_ids)
    for task_id in tasks:
        yield from verifier.findings(task_id)


def _findings_table(findings: list[Finding]) -> Table:
    table = Table("Promise", "Finding", "Task", "Run", "When (UTC)", "What was found")
    for finding in findings:
        table.add_row(
            MEANINGS[finding.kind][0],
            finding.kind,
            escape(f"{finding.task} ({finding.task_id})"),
            str(finding.run_id or ""),
            _when(finding),
            escape(finding.text),
        )
    return table


def _when(finding: Finding) -> str:
    if finding.at is None:
        return ""
    first = _clock(finding.at)
    if finding.last is None or finding.last == finding.at:
        return first
    return f"{first} to {_clock(finding.last)}"


def _clock(at: datetime) -> str:
    text = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"
    return text.removesuffix(".000000")


def _summary(verifier: Verifier, findings: int) -> str:
    checked = verifier.checked
    since = _clock(verifier.since) if verifier.since else "the beginning"
    lines = [
        f"Checked from {since} to {_clock(verifier.until)} UTC: {checked.tasks} tasks,"
        f" {checked.fires} fires, {checked.runs} runs, {checked.events} events.",
        f"Not over yet: {checked.unfinished} runs, within their deadlines."
        if not findings
        else f"Not over yet: {checked.unfinished} runs.",
    ]
    if checked.open_ends:
        lines.append(
            f"Not checked: the newest fires of {checked.open_ends} tasks that are"
            " deleted or were changed during a pause."
        )
    lines.append(f"Findings: {findings or 'none'}.")
    return "\n".join(lines)


def _moment(text: str) -> datetime:
    """A moment in time; without an offset, it is UTC."""
    if ago := re.fullmatch(r"(\d{1,6})([smhdw])", text):
        return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is no time: write 2026-07-01T00:00Z, or 24h for a day ago"
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
