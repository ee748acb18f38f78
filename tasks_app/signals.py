"""The one signal by which tasks_app tells workers_app that runs wait for it."""

from __future__ import annotations

from django.dispatch import Signal

runs_ready = Signal()
"""Sent after commit, with `doorbells: Sequence[Doorbell]`, one for each queued run
that may start now, and for each running run that is to stop.

A lost signal loses nothing: workers look for themselves as well."""
