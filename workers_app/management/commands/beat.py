"""`manage.py beat`: a beat without the rest of Celery's command line.

The same beat as `celery -A scheduler_project beat`, smaller, as `manage.py worker` is.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Run a beat: turns due schedules into runs until it is told to stop."
    requires_system_checks = []  # they load every page; `make check` does them

    def handle(self, *_args: Any, **_options: Any) -> None:
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
        current_app.Beat(loglevel=level, quiet=True).run()  # the banner says nothing
