"""The settings of the database, as each way to it needs them."""

from __future__ import annotations

import pytest

from scheduler_project import settings

URL = "postgresql://user:password@host/name"


def test_a_frozen_transaction_is_ended_by_the_server() -> None:
    options = settings.database_settings(URL)["OPTIONS"]
    assert "idle_in_transaction_session_timeout" in options["options"]


def test_a_pooler_gets_nothing_that_belongs_to_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "DATABASE_POOLER", True)
    found = settings.database_settings(URL)
    assert "options" not in found["OPTIONS"]
    assert found["DISABLE_SERVER_SIDE_CURSORS"]
    assert found["OPTIONS"]["prepare_threshold"] is None
