"""/calendars: blackouts, defined, changed, looked at, and deleted."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from tasks_app.models import Calendar, Project
from tasks_app.services.tasks import task_delete
from tests.factories import make_task

pytestmark = pytest.mark.django_db

URL = "/api/v1/calendars"
NIGHTS = {
    "name": "nights",
    "timezone": "Europe/Berlin",
    "action": "postpone",
    "windows": [{"cron": "0 22 * * *", "duration_seconds": 28_800}],
}


def codes(response: Any) -> dict[str, str]:
    """The code by pointer."""
    assert response.status_code == 400, response.content
    return {error["pointer"]: error["code"] for error in response.json()["errors"]}


def test_a_calendar_goes_in_as_it_comes_out(admin: APIClient) -> None:
    response = admin.post(URL, NIGHTS)
    calendar = response.json()
    assert response.status_code == 201, calendar
    assert response["Location"] == f"http://testserver{URL}/{calendar['id']}"
    assert {name: calendar[name] for name in NIGHTS} == NIGHTS
    for reference in ("nights", calendar["id"]):
        assert admin.get(f"{URL}/{reference}").json() == calendar
    assert [row["name"] for row in admin.get(URL).json()["results"]] == ["nights"]


def test_a_calendar_skips_in_utc_unless_it_says_otherwise(admin: APIClient) -> None:
    calendar = admin.post(URL, {"name": "x", "windows": []}).json()
    assert (calendar["action"], calendar["timezone"]) == ("skip", "UTC")


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({"name": "two words"}, "/name", "invalid"),
        ({"name": "12"}, "/name", "numeric_name"),
        ({"name": "taken"}, "/name", "name_taken"),
        ({"name": 5}, "/name", "not_a_string"),
        ({"timezone": "Mars"}, "/timezone", "unknown_timezone"),
        ({"action": "delay"}, "/action", "invalid_choice"),
        ({"windows": {}}, "/windows", "not_a_list"),
        ({"windows": [5]}, "/windows/0", "not_an_object"),
        ({"windows": [{"from": "2026-01-01T00:00"}]}, "/windows/0/until", "required"),
        (
            {"windows": [{"cron": "61 * * * *", "duration_seconds": 1}]},
            "/windows/0/cron",
            "out_of_range",
        ),
        (
            {"windows": [{"cron": "@daily", "duration_seconds": 0}]},
            "/windows/0/duration_seconds",
            "out_of_range",
        ),
        ({"zone": "UTC"}, "/zone", "unknown_field"),
    ],
)
def test_a_wrong_field_is_named(
    admin: APIClient, values: dict[str, Any], pointer: str, code: str
) -> None:
    Calendar.objects.create(name="taken")
    assert codes(admin.post(URL, {**NIGHTS, **values}))[pointer] == code
    assert Calendar.objects.count() == 1


def test_parts_are_changed(admin: APIClient) -> None:
    admin.post(URL, NIGHTS)
    changed = admin.patch(f"{URL}/nights", {"action": "skip"}).json()
    assert (changed["action"], changed["windows"]) == ("skip", NIGHTS["windows"])
    response = admin.patch(f"{URL}/nights", {"windows": "none"})
    assert codes(response) == {"/windows": "not_a_list"}


def test_a_calendar_that_is_used_is_not_deleted(admin: APIClient) -> None:
    calendar = Calendar.objects.create(name="nights")
    task = make_task(name="backup", calendars=[calendar])
    project = Project.objects.get(name="default")
    project.calendars.add(calendar)

    response = admin.delete(f"{URL}/nights")
    assert response.status_code == 409
    assert response.json()["code"] == "calendar_in_use"
    assert "tasks backup and projects default" in response.json()["detail"]

    project.calendars.clear()
    task_delete(task_id=task.pk, actor="user:test")
    assert admin.delete(f"{URL}/nights").status_code == 204
    assert admin.get(f"{URL}/nights").status_code == 404


def test_the_next_blackouts_can_be_looked_at(reader: APIClient) -> None:
    Calendar.objects.create(**NIGHTS)
    query = {"from": "2026-01-01T12:00:00Z", "count": "2"}
    assert reader.get(f"{URL}/nights/preview", query).json() == [
        {"start_at": "2026-01-01T21:00:00Z", "end_at": "2026-01-02T05:00:00Z"},
        {"start_at": "2026-01-02T21:00:00Z", "end_at": "2026-01-03T05:00:00Z"},
    ]
    assert len(reader.get(f"{URL}/nights/preview").json()) == 10
    assert reader.get(f"{URL}/nights/preview?count=0").status_code == 400


@pytest.mark.parametrize("reference", ["nothing", "0", "9" * 30, "%00"])
def test_an_unknown_calendar_is_not_found(reader: APIClient, reference: str) -> None:
    assert reader.get(f"{URL}/{reference}").status_code == 404


def test_a_reader_changes_nothing(reader: APIClient) -> None:
    Calendar.objects.create(name="nights")
    assert reader.post(URL, NIGHTS).status_code == 403
    assert reader.patch(f"{URL}/nights", {}).status_code == 403
    assert reader.delete(f"{URL}/nights").status_code == 403


def test_the_list_costs_the_same_for_any_number(
    reader: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(8):
        Calendar.objects.create(name=f"calendar-{number}")
    with django_assert_num_queries(4):  # the user's permissions, count, calendars
        assert reader.get(URL).json()["count"] == 8
