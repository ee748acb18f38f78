"""`manage.py up`: the whole platform on this machine, in the foreground."""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connections

from scheduler_project.local.bootstrap import ADMIN, admin_create, migrate
from scheduler_project.local.demo_tasks import demo_tasks_create, is_first_start
from scheduler_project.local.errors import PlatformError
from scheduler_project.local.flower import INSTALL, FlowerEnvironment
from scheduler_project.local.output import Terminal
from scheduler_project.local.platform import (
    BASE_DIR,
    WEB_PORT,
    Addresses,
    Platform,
    platform,
)
from scheduler_project.local.ports import HOST, free_port
from scheduler_project.local.supervisor import Exit, describe_exit

FLOWER_PORT = 5555


class Command(BaseCommand):
    help = (
        "Start the whole platform on this machine, in the foreground, and stop it on"
        " Ctrl-C. Database and broker are embedded unless DATABASE_URL and BROKER_URL"
        " name real ones."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--db",
            choices=["sqlite", "postgres"],
            help="the embedded database (default: sqlite)",
        )
        parser.add_argument(
            "--port",
            type=int,
            default=WEB_PORT,
            help="of the web service, or the next free one (default: %(default)s)",
        )
        parser.add_argument(
            "--no-flower", action="store_true", help="do without Flower"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        began = time.monotonic()
        # SIGINT too: what a shell starts in the background begins with it ignored.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        self.terminal = Terminal(sys.stdout)
        directory = settings.VAR_DIR.resolve()
        try:
            with platform(directory, _addresses(options), self.terminal) as running:
                self._run(running, options, began)
        except (PlatformError, OperationalError) as error:
            raise CommandError(
                f"The platform has stopped: {str(error).strip()}."
            ) from error
        except KeyboardInterrupt:
            pass
        self.stdout.write("The platform has stopped.")

    def _run(self, running: Platform, options: dict[str, Any], began: float) -> None:
        url = running.start_web(options["port"])
        migrate()
        password = admin_create()
        running.start_work()
        running.wait_until_ready(url)
        if is_first_start():
            demo_tasks_create(url)
        connections.close_all()
        flower = None if options["no_flower"] else _Flower(self, running)
        self._announce(url, password, flower, time.monotonic() - began)
        try:
            while True:
                ended = running.supervisor.wait()
                if ended and flower:
                    flower.has_ended(ended)
        except KeyboardInterrupt:
            self.stdout.write("Stopping; a second Ctrl-C kills.")
            self.stdout.flush()

    def _announce(
        self, url: str, password: str | None, flower: _Flower | None, seconds: float
    ) -> None:
        login = (
            f"{ADMIN} / {password}   (shown this once)"
            if password
            else f"as before; forgotten? python manage.py changepassword {ADMIN}"
        )
        lines = {
            "Web": f"{url}/admin/",
            "API": f"{url}/api/v1/",
            "Flower": flower.state if flower else "not started",
            "Login": login,
            "Data": str(settings.VAR_DIR),
        }
        self.stdout.write(f"\nGnomon is ready after {seconds:.1f} s.")
        for name, text in lines.items():
            self.stdout.write(f"  {name:<8} {text}")
        self.stdout.write("  Ctrl-C stops everything.\n")
        self.stdout.flush()  # a pipe would keep it until a service says something


class _Flower:
    """Starts Flower, after its installation if need be. Its end is only a notice."""

    def __init__(self, command: Command, running: Platform) -> None:
        self._terminal = command.terminal
        self._running = running
        self._port = free_port(FLOWER_PORT)
        self._environment = FlowerEnvironment(
            BASE_DIR / ".venv-flower", BASE_DIR / "docker" / "flower-requirements.txt"
        )
        self.state = f"http://{HOST}:{self._port}/"
        if self._environment.is_installed:
            self._start()
        else:
            self.state += "   (in a minute: it is being installed)"
            running.supervisor.start(self._environment.install())

    def _start(self) -> None:
        self._running.supervisor.start(
            self._environment.flower(self._running.broker_url, self._port)
        )

    def has_ended(self, ended: Exit) -> None:
        if ended.name == INSTALL and ended.code == 0:
            self._start()
            return
        what = "cannot be installed" if ended.name == INSTALL else "has ended"
        reason = describe_exit(ended.code)
        self._terminal("flower", f"Flower {what} ({reason}); the rest goes on")


def _addresses(options: dict[str, Any]) -> Addresses:
    database_url = os.environ.get("DATABASE_URL")
    if database_url and options["db"]:
        raise CommandError(
            "DATABASE_URL names the database and --db asks for an embedded one: give"
            " one of them."
        )
    return Addresses(
        database_url, os.environ.get("BROKER_URL"), options["db"] or "sqlite"
    )
