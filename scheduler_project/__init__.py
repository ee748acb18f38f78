"""Wiring: settings, the Celery application, urls, logging."""

from __future__ import annotations

import sys

from scheduler_project import late, lean

late.import_late(lean.LATE)
if lean.is_work(sys.argv):
    lean.import_for_work()
lean.import_alone(*lean.LIBRARIES)

from scheduler_project.celery import app as celery_app  # noqa: E402 - imports Celery

if lean.is_work(sys.argv):
    lean.forget_time_zones()

__all__ = ["celery_app"]
