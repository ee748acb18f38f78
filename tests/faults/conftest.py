"""Servers that a fault test may kill: its own, and nobody else's."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler_project.local import embedded
from scheduler_project.local.lock import lock
from tests.faults.servers import Killable, own_postgresql


@pytest.fixture(autouse=True)
def on_postgresql() -> None:
    if "sqlite" in os.environ["DATABASE_URL"]:
        pytest.skip("SQLite has no server to lose: the faults are met on PostgreSQL")


@pytest.fixture
def folder() -> Iterator[Path]:
    """For servers that run as another user: pytest shuts the folders above tmp_path
    whenever another run of it begins."""
    path = Path(os.environ["GNOMON_VAR"]) / f"servers-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own_broker(folder: Path) -> Iterator[Killable]:
    """A Valkey of this test's own."""
    with lock(folder / "broker") as held:
        server = Killable(embedded.valkey(folder / "broker" / "valkey", held))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def own_database(folder: Path, django_db_blocker: Any) -> Iterator[Killable]:
    """A PostgreSQL of this test's own, which Django uses meanwhile."""
    with django_db_blocker.unblock(), own_postgresql(folder / "database") as server:
        yield server
