"""What a trigger reads of a task."""

from __future__ import annotations

import pytest
from pytest_django import DjangoAssertNumQueries

from tasks_app.ledger.triggering import tasks_to_run
from tasks_app.models import Project
from tasks_app.services.tasks import task_delete, task_update
from tests.factories import make_task

pytestmark = pytest.mark.django_db


def test_a_task_comes_with_its_project_and_its_current_version(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    made = make_task(name="x", queue="slow", start_deadline_seconds=60)
    task_update(task_id=made.pk, values={"command": "false"})
    newest = made.versions.get(number=2)
    with django_assert_num_queries(1):
        [(task, version_id)] = tasks_to_run(pk=made.pk)
        assert (task, version_id) == (made, newest.pk)
        assert (task.name, task.project.name, task.queue) == ("x", "default", "slow")
        assert (task.status, task.version, task.max_attempts) == ("active", 2, 1)
        assert task.start_deadline_seconds == 60


def test_a_name_is_sought_in_every_project_or_in_one() -> None:
    here = make_task(name="x")
    there = make_task(name="x", project=Project.objects.create(name="other"))
    make_task(name="y")
    assert {task for task, _version in tasks_to_run(name="x")} == {here, there}
    [(found, _)] = tasks_to_run(name="x", project="other")
    assert found == there
    assert not tasks_to_run(name="x", project="nowhere")
    assert not tasks_to_run(pk=here.pk, project="other")


def test_a_deleted_task_is_not_found() -> None:
    task = make_task(name="x")
    task_delete(task_id=task.pk, actor="user:test")
    assert not tasks_to_run(pk=task.pk)
    assert not tasks_to_run(name="x")
