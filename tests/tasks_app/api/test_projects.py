"""/projects: what their tasks share."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from tasks_app.models import Calendar, Project, TaskRun
from tests.factories import make_run, make_task

pytestmark = pytest.mark.django_db

URL = "/api/v1/projects"


def test_the_default_project_is_there(reader: APIClient) -> None:
    (project,) = reader.get(URL).json()["results"]
    assert project == reader.get(f"{URL}/default").json()
    assert project["name"] == "default"
    assert project["rate_limit"] is None
    assert project["calendars"] == []
    assert reader.get(f"{URL}/other").status_code == 404


def test_a_project_has_a_rate_limit_calendars_and_a_retention(admin: APIClient) -> None:
    Calendar.objects.create(name="nights")
    values = {
        "description": "d",
        "rate_limit": {"runs": 10, "per_seconds": 60},
        "calendars": ["nights"],
        "retention_days": 30,
    }
    changed = admin.patch(f"{URL}/default", values).json()
    assert {name: changed[name] for name in values} == values
    ended = admin.patch(f"{URL}/default", {"rate_limit": None}).json()
    assert (ended["rate_limit"], ended["calendars"]) == (None, ["nights"])


def test_a_changed_limit_applies_to_runs_that_wait(admin: APIClient) -> None:
    for _ in range(3):
        make_run(make_task())
    admin.patch(f"{URL}/default", {"rate_limit": {"runs": 1, "per_seconds": 60}})
    assert TaskRun.objects.filter(admission="held").count() == 2
    admin.patch(f"{URL}/default", {"rate_limit": None})
    assert TaskRun.objects.filter(admission="held").count() == 0


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({"name": "x"}, "/name", "unknown_field"),
        ({"calendars": ["none"]}, "/calendars/0", "unknown_calendar"),
        ({"rate_limit": {"runs": 1}}, "/rate_limit/per_seconds", "required"),
        (
            {"rate_limit": {"runs": 0, "per_seconds": 1}},
            "/rate_limit/runs",
            "min_value",
        ),
    ],
)
def test_a_wrong_field_is_named(
    admin: APIClient, values: dict[str, Any], pointer: str, code: str
) -> None:
    response = admin.patch(f"{URL}/default", values)
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["pointer"], error["code"]) == (pointer, code)


def test_a_reader_changes_nothing(reader: APIClient) -> None:
    assert reader.patch(f"{URL}/default", {}).status_code == 403


def test_the_list_costs_the_same_for_any_number(
    reader: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    calendar = Calendar.objects.create(name="nights")
    for number in range(8):
        Project.objects.create(name=f"p{number}").calendars.add(calendar)
    # two for the user's permissions, then count, projects, calendars
    with django_assert_num_queries(5):
        assert reader.get(URL).json()["count"] == 9
