"""manage.py archive: what it asks for."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

pytestmark = pytest.mark.django_db


def test_without_a_history_database_it_refuses() -> None:
    with pytest.raises(CommandError, match="HISTORY_DATABASE_URL"):
        call_command("archive", "--before", "2026-01-01")


@pytest.mark.parametrize(
    "options", [(), ("--before", "yesterday"), ("--older-than", "x")]
)
def test_it_asks_for_an_age(options: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        call_command("archive", *options)
