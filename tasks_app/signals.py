"""The one signal by which tasks_app tells workers_app that runs are ready."""

from __future__ import annotations

from django.dispatch import Signal

runs_ready = Signal()
"""Sent after commit, with `run_ids: list[int]`: queued runs that may start now.

A lost signal loses nothing: redispatch finds the rows."""
