"""What the database itself refuses, whatever the code does."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from tasks_app.models import TaskRun
from tests.factories import claim, end, make_run, make_task

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "change",
    [
        {"status": "failed"},
        {"status": "queued", "completed_at": None},
        {"attempt": 9},
        {"exit_code": 9},
        {"error": "another story"},
        {"result": {"other": 1}},
        {"completed_at": None},
    ],
)
def test_a_terminal_state_never_changes(change: dict[str, object]) -> None:
    run = end(make_run(), "succeeded")
    with pytest.raises(DatabaseError), transaction.atomic():
        TaskRun.objects.filter(pk=run.pk).update(**change)
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_a_fire_exists_once() -> None:
    run = make_run()
    TaskRun.objects.filter(pk=run.pk).update(trigger="schedule")
    run = TaskRun.objects.get(pk=run.pk)
    run.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        run.save()


@pytest.mark.parametrize(
    "change", [{"lease_expires_at": None}, {"attempt": 0}, {"worker": None}]
)
def test_a_running_run_has_an_attempt_a_lease_and_a_worker(
    change: dict[str, object],
) -> None:
    run = make_run()
    claim(run)
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskRun.objects.filter(pk=run.pk).update(**change)


def test_a_queued_run_has_not_completed() -> None:
    run = make_run()
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskRun.objects.filter(pk=run.pk).update(status="succeeded")


def test_retries_without_the_right_to_repeat_are_refused() -> None:
    task = make_task()
    with pytest.raises(IntegrityError), transaction.atomic():
        type(task).objects.filter(pk=task.pk).update(max_attempts=3)
