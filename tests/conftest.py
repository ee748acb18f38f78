"""What every test may use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasks_app.models import Project
from tasks_app.signals import runs_ready


@pytest.fixture(autouse=True)
def rung() -> Iterator[list[int]]:
    """Stands where workers_app rings: collects the ids of runs told to be ready."""
    told: list[int] = []

    def collect(run_ids: list[int], **_: Any) -> None:
        told.extend(run_ids)

    receivers, runs_ready.receivers = runs_ready.receivers, []
    runs_ready.connect(collect, weak=False)
    runs_ready.sender_receivers_cache.clear()
    yield told
    runs_ready.receivers = receivers
    runs_ready.sender_receivers_cache.clear()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for a state, with a deadline."""

    def wait(is_so: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, f"not so after {seconds} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def committed(transactional_db: None) -> None:
    """A database whose transactions commit, with the default project in it."""
    Project.objects.get_or_create(name="default")
