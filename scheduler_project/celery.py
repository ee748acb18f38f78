"""The Celery application: it carries doorbells, and decides nothing else."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings
from kombu import Exchange, Queue

from workers_app.transports import profile

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_project.settings")
# They load every page, for which a beat or a worker has no app; `make check` does them.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("gnomon")
app.set_default()  # for every thread, not only this one
app.conf.update(
    broker_url=settings.BROKER_URL,
    # What is in a message is not trusted: it may name runs, and nothing else.
    accept_content=["json"],
    task_ignore_result=True,
    task_create_missing_queues=True,
    task_default_queue="default",
    task_queues=[
        Queue(name, Exchange(name), routing_key=name) for name in settings.WORKER_QUEUES
    ],
    worker_pool="workers_app.pool:AsyncioPool",
    worker_concurrency=settings.WORKER_CONCURRENCY,
    worker_prefetch_multiplier=1,
    worker_enable_prefetch_count_reduction=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_send_task_events=settings.TASK_EVENTS,
    task_send_sent_event=settings.TASK_EVENTS,
    worker_hijack_root_logger=False,
    beat_scheduler="workers_app.beat:LedgerScheduler",
    broker_connection_retry_on_startup=True,
    broker_channel_error_retry=True,
    enable_utc=True,
    timezone="UTC",
    **profile(settings.BROKER_URL),
)
app.autodiscover_tasks(["workers_app"])


@setup_logging.connect
def _keep_our_logging(**_: object) -> None:
    """Connected so that Celery leaves the logging of the settings alone."""
