"""The alert for runs that no worker can take."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks_app import ledger
from tasks_app.models import Alert, Task, TaskRun
from tests.factories import make_run, make_task, make_worker, shift
from workers_app.models import WorkerInfo
from workers_app.registration import worker_offline

pytestmark = pytest.mark.django_db
LONG = 3600


def late_run(task: Task) -> TaskRun:
    """A run that has been due for an hour."""
    run = make_run(task)
    shift(TaskRun, run.pk, LONG, "due_at")
    return run


def standing() -> dict[str, str]:
    alerts = Alert.objects.open().filter(kind="no_worker")
    return dict(alerts.values_list("subject", "message"))


def test_it_names_the_tasks_and_why_and_ends_when_a_worker_can() -> None:
    make_worker("w-1", tags=["spot"])
    task = make_task(name="train", match="gpu and not spot")
    late_run(task)
    assert ledger.alert_unplaced() == 1
    assert standing() == {
        "queue:default lane:gpu and not spot": (
            "train: no online worker can take it (queue default, gpu and not spot):"
            " w-1: its tags do not fit: the run needs gpu and not spot"
        )
    }
    assert Alert.objects.get().task == task
    assert ledger.alert_unplaced() == 0  # it stands already
    make_worker("w-2", tags=["gpu"])
    ledger.alert_unplaced()
    assert standing() == {}
    assert Alert.objects.get().resolved_at


def test_it_ends_when_nothing_waits_any_more() -> None:
    run = late_run(make_task(queue="nobody"))
    ledger.alert_unplaced()
    assert list(standing()) == ["queue:nobody"]
    ledger.cancel([run.pk], "user:test")
    ledger.alert_unplaced()
    assert standing() == {}


def test_a_short_wait_is_no_alert() -> None:
    make_run(make_task(queue="nobody"))
    assert ledger.alert_unplaced() == 0


def test_a_run_that_is_not_due_is_no_alert() -> None:
    run = make_run(make_task(queue="nobody"))
    shift(TaskRun, run.pk, -LONG, "due_at")
    assert ledger.alert_unplaced() == 0


def test_full_workers_are_no_alert() -> None:
    make_worker(max_tasks=0)
    late_run(make_task())
    assert ledger.alert_unplaced() == 0


def test_a_worker_that_just_stopped_may_be_restarting() -> None:
    worker = make_worker()
    late_run(make_task())
    worker_offline(worker.pk)
    assert ledger.alert_unplaced() == 0
    shift(WorkerInfo, worker.pk, LONG, "last_heartbeat")
    assert ledger.alert_unplaced() == 1
    assert next(iter(standing().values())).endswith("none is online")


def test_draining_workers_take_nothing() -> None:
    make_worker("w-1")
    WorkerInfo.objects.update(is_draining=True)
    late_run(make_task())
    ledger.alert_unplaced()
    assert "w-1: it is draining" in standing()["queue:default"]


def test_a_named_worker_that_is_away_is_told() -> None:
    make_worker("other")
    away = make_worker("named")
    worker_offline(away.pk)
    shift(WorkerInfo, away.pk, LONG, "last_heartbeat")
    late_run(make_task(placement="worker", worker_name="named"))
    ledger.alert_unplaced()
    message = standing()["queue:default lane:worker:named"]
    assert message.endswith("named: it is offline")


def test_each_queue_and_lane_is_told_apart() -> None:
    make_worker(tags=["gpu"])
    for queue, match in (
        ("default", "gpu"),
        ("default", "tpu"),
        ("a", ""),
        ("a", "tpu"),
        ("b", "gpu"),
    ):
        late_run(make_task(queue=queue, match=match))
    assert ledger.alert_unplaced() == 4
    assert set(standing()) == {
        "queue:default lane:tpu",
        "queue:a",
        "queue:a lane:tpu",
        "queue:b lane:gpu",
    }


def test_several_tasks_share_an_alert_and_long_lanes_fit() -> None:
    match = " or ".join(f"zone=eu-{number:03}" for number in range(30))
    for name in "abcde":
        late_run(make_task(name=f"task-of-{name}", match=match))
    other = match.replace("eu-029", "eu-xxx")
    late_run(make_task(match=other))
    assert ledger.alert_unplaced() == 2
    assert all(len(subject) <= 300 for subject in standing())
    messages = "".join(standing().values())
    assert "task-of-a, task-of-b, task-of-c and 2 more: " in messages


def test_its_statements_do_not_grow_with_what_waits() -> None:
    counts = []
    for _ in range(2):
        for _run in range(5):
            late_run(make_task(queue="nobody"))
        with CaptureQueriesContext(
            connection,
        ) as queries:
            ledger.alert_unplaced()
        counts.append(len(queries))
    assert counts[1] <= counts[0]
