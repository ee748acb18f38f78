"""`manage.py bootstrap`: make a database ready for use. May be repeated."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from scheduler_project.local.bootstrap import ADMIN, admin_create, migrate
from scheduler_project.local.demo_tasks import demo_tasks_create, is_first_start


class Command(BaseCommand):
    help = (
        "Apply the migrations and, where there is no administrator, create one and"
        " print the password, this once."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--demo-tasks",
            metavar="URL",
            help="if no task was ever defined, create the demo tasks; the HTTP one"
            " calls the web service at this address, as in http://127.0.0.1:8000",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        migrate()
        password = admin_create()
        if password:
            self.stdout.write(f"Login: {ADMIN} / {password}   (shown this once)")
        if options["demo_tasks"] and is_first_start():
            demo_tasks_create(options["demo_tasks"])
            self.stdout.write("The demo tasks fire in a moment.")
