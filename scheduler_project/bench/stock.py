"""The stock way, as the bench's peer: Celery and Django as one first joins them.

Celery's defaults, its Django fixup among them; `stock_tasks` holds the task.
"""

from __future__ import annotations

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_project.settings")

PROCESSES = 2
NAME = f"Celery task, 3 ORM saves, prefork {PROCESSES}"

app = Celery(
    "stock",
    broker=settings.BROKER_URL,
    include=["scheduler_project.bench.stock_tasks"],
    set_as_current=False,  # the bench's own process keeps the product's
)
