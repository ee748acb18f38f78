"""The Celery application that Flower asks workers by.

It knows our transports, and nothing else of Gnomon, so that Flower's environment needs
neither Django nor a database.
"""

from __future__ import annotations

from celery import Celery

app = Celery("flower", fixups=[], set_as_current=False)
"""`celery -A workers_app.transports.flower flower`, the broker's URL in
CELERY_BROKER_URL. That its package is imported makes the transports known."""
