"""One holder a duty."""

from __future__ import annotations

import pytest

from tests.factories import shift
from workers_app.leadership import lead
from workers_app.models import Leadership

pytestmark = pytest.mark.django_db


def test_the_first_leads_and_goes_on_leading() -> None:
    assert lead("duty", "a")
    assert not lead("duty", "b")
    assert lead("duty", "a")


def test_a_silent_holder_is_followed() -> None:
    lead("duty", "a")
    row = Leadership.objects.get()
    shift(Leadership, row.pk, 31, "expires_at")
    assert lead("duty", "b")
    assert not lead("duty", "a")


def test_duties_are_apart() -> None:
    assert lead("one", "a")
    assert lead("other", "b")
