"""`manage.py retention`: remove the runs that nobody keeps any longer, now."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder
from django.template.defaultfilters import filesizeformat
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tasks_app.ledger.partitions import Partition, is_settled
from tasks_app.ledger.retention import (
    Rule,
    count_old,
    drop_month,
    due_months,
    remove_all_old,
    rules_in_batches,
)

TABLE_COLUMNS = 120
"""Where no terminal sets the width."""


class Command(BaseCommand):
    help = (
        "Remove the runs, with their events and logs, that retention keeps no longer:"
        " what beat does by itself. Whole months are dropped, and single tasks' runs"
        " deleted batch by batch. Exits 1 if a month that is due had to stay."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what would be removed"
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *_args: Any, **options: Any) -> None:
        months = due_months()
        batched = [(rule, count_old(rule)) for rule in rules_in_batches()]
        batched = [(rule, count) for rule, count in batched if count]
        stay = [month.name for month in months if not is_settled(month)]
        removed: Counter[int] = Counter()
        if not options["json"]:
            self._show(months, batched, stay)
        if not options["dry_run"]:
            stay = [month.name for month in months if not drop_month(month)]
            removed = _remove(batched)
        if options["json"]:
            self._write_json(months, stay, batched, removed)
        elif not options["dry_run"]:
            done = f"Dropped {len(months) - len(stay)} months, removed"
            self.stdout.write(f"{done} {removed.total()} single runs.")
        if stay and not options["dry_run"]:
            sys.exit(1)

    def _show(
        self,
        months: Sequence[Partition],
        batched: Sequence[tuple[Rule, int]],
        stay: Sequence[str],
    ) -> None:
        width = None if sys.stdout.isatty() else TABLE_COLUMNS
        console = Console(width=width, highlight=False)
        with console.capture() as captured:
            if months:
                console.print(_months_table(months, stay))
            if batched:
                console.print(_tasks_table(batched))
            if not months and not batched:
                console.print("Nothing is old enough to be removed.")
        self.stdout.write(captured.get())

    def _write_json(
        self,
        months: Sequence[Partition],
        stay: Sequence[str],
        batched: Sequence[tuple[Rule, int]],
        removed: Counter[int],
    ) -> None:
        document = {
            "months": [
                {**asdict(month), "stays": month.name in stay} for month in months
            ],
            "tasks": [
                {**asdict(rule), "old_runs": count, "removed": removed[rule.task_id]}
                for rule, count in batched
            ],
        }
        self.stdout.write(json.dumps(document, indent=2, cls=DjangoJSONEncoder))


def _remove(batched: Sequence[tuple[Rule, int]]) -> Counter[int]:
    """Remove single runs, with the progress at a terminal; returns how many by task."""
    removed: Counter[int] = Counter()
    expected = sum(count for _, count in batched)
    for rule, count in _tracked([rule for rule, _ in batched], expected):
        removed[rule.task_id] += count
    return removed


def _tracked(batched: Sequence[Rule], expected: int) -> Iterator[tuple[Rule, int]]:
    console = Console(stderr=True)
    columns = (TextColumn("Removing runs"), BarColumn(), MofNCompleteColumn())
    shown = Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    )
    with shown as progress:
        task = progress.add_task("", total=expected)
        for rule, count in remove_all_old(batched):
            progress.advance(task, count)
            yield rule, count


def _months_table(months: Sequence[Partition], stay: Sequence[str]) -> Table:
    table = Table("Month", "From", "Before", "Runs, about", "Size", "")
    for month in months:
        table.add_row(
            month.name,
            str(month.begin or ""),
            str(month.end or ""),
            f"{month.rows:,}",
            filesizeformat(month.bytes).replace("\xa0", " "),
            "stays: it has unfinished runs" if month.name in stay else "",
        )
    return table


def _tasks_table(batched: Sequence[tuple[Rule, int]]) -> Table:
    table = Table("Task", "Days kept", "Before", "Runs, about")
    for rule, count in batched:
        name = escape(f"{rule.task} ({rule.task_id})")
        table.add_row(name, str(rule.days), str(rule.first_day), f"{count:,}")
    return table
