"""A worker's row tells of its life."""

from __future__ import annotations

import pytest

from tests.factories import make_worker, shift
from workers_app.models import WorkerInfo
from workers_app.registration import (
    worker_offline,
    worker_register,
    workers_mark_silent,
)

pytestmark = pytest.mark.django_db


def test_a_worker_keeps_its_row_over_restarts() -> None:
    first = make_worker("w1")
    worker_offline(first.pk)
    again = worker_register("w1", max_tasks=5, queues=["a", "b"])
    assert again.pk == first.pk
    row = WorkerInfo.objects.get(name="w1")
    assert (row.status, row.max_tasks, row.queues) == ("online", 5, ["a", "b"])
    assert row.host["pid"]


def test_a_worker_without_heartbeat_for_a_lease_is_offline() -> None:
    silent, alive = make_worker(), make_worker()
    shift(WorkerInfo, silent.pk, 31, "last_heartbeat")
    assert workers_mark_silent() == [silent.name]
    assert workers_mark_silent() == []
    alive.refresh_from_db()
    assert alive.status == "online"
