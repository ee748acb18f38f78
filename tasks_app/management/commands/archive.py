"""`manage.py archive`: moves months of finished runs to the history database."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tasks_app import ledger
from tasks_app.errors import DomainError
from tasks_app.ledger.archiving import (
    Moved,
    archivable,
    archive,
    finish_archive,
    is_configured,
    left_over,
)
from tasks_app.ledger.partitions import Partition


class Command(BaseCommand):
    help = (
        "Move whole months of runs that have all ended, with their events and output,"
        " to the database at HISTORY_DATABASE_URL. May be stopped at any time: the next"
        " call goes on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        age = parser.add_mutually_exclusive_group(required=True)
        age.add_argument(
            "--before", type=_day, help="months that ended by this day, as 2026-01-01"
        )
        age.add_argument("--older-than", type=int, metavar="DAYS")
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would move, and stop"
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *_args: Any, **options: Any) -> None:
        if not is_configured():
            raise CommandError("HISTORY_DATABASE_URL names no database to move to.")
        self.is_json = options["json"]
        before = options["before"] or self._days_ago(options["older_than"])
        found = archivable(before)
        if options["dry_run"]:
            self._write({"would_move": [_shown(partition) for partition in found]})
            return
        try:
            moved = [finish_archive(month, self._tell) for month in left_over()]
            moved += [
                each for one in found if (each := archive(one, self._tell)) is not None
            ]
        except DomainError as error:
            raise CommandError(str(error)) from error
        self._write({"moved": [asdict(month) for month in moved]}, moved)

    def _days_ago(self, days: int) -> date:
        if days < 0:
            raise CommandError("--older-than is a number of days from 0 on.")
        return ledger.database_now().date() - timedelta(days=days)

    def _tell(self, text: str) -> None:
        self.stderr.write(text)

    def _write(self, document: Any, moved: list[Moved] | None = None) -> None:
        if self.is_json:
            self.stdout.write(json.dumps(document, indent=2))
        elif moved is not None:
            self.stdout.write(f"{len(moved)} months moved.")
        else:
            for month in document["would_move"]:
                size = month["bytes"] / 2**20
                self.stdout.write(
                    f"{month['name']}: about {month['runs']:,} runs, {size:,.0f} MB"
                )


def _shown(partition: Partition) -> dict[str, Any]:
    return {
        "name": partition.name,
        "runs": partition.rows,
        "bytes": partition.bytes,
    }


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text} is no day such as 2026-01-01") from None
