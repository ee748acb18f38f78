"""/stats: how the platform is."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tests.factories import end, make_run, make_worker

pytestmark = pytest.mark.django_db

URL = "/api/v1/stats"


def test_it_tells_how_the_platform_is(reader: APIClient) -> None:
    make_worker()
    end(make_run())
    make_run()
    found = reader.get(URL).json()
    assert found["queued"] == 1
    assert found["succeeded"] == 1
    assert found["success_percent"] == 100
    assert found["workers_online"] == 2
    assert len(found["hours"]) == 24
    assert sum(hour["succeeded"] for hour in found["hours"]) == 1


def test_it_is_for_those_who_may_read_runs(stranger: APIClient) -> None:
    assert stranger.get(URL).status_code == 403
