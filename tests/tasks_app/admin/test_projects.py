"""The pages of projects: how long runs are kept, and what else their tasks share."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks_app.models import Calendar, Project, TaskRun
from tests.factories import make_run, make_task
from tests.tasks_app.admin.conftest import READ, sign_in
from tests.tasks_app.admin.pages import PROJECTS, list_url, project_url

pytestmark = pytest.mark.django_db

EMPTY = {"description": "", "retention_days": "", "rate_limit": ""}


@pytest.fixture
def project() -> Project:
    return Project.objects.get(name="default")


def listed(client: Client) -> str:
    return client.get(list_url(PROJECTS)).content.decode()


@pytest.mark.parametrize(
    ("given", "kept", "told"),
    [
        ("30", 30, "<td>30</td>"),
        ("0", 0, "<td>for ever</td>"),
        ("", None, "<td>as the server says</td>"),
    ],
)
def test_a_retention_is_set_and_shown(
    operator: Client, project: Project, given: str, kept: int | None, told: str
) -> None:
    Project.objects.update(retention_days=90)
    answer = operator.post(project_url(project), {**EMPTY, "retention_days": given})
    assert answer["Location"] == list_url(PROJECTS)
    project.refresh_from_db()
    assert project.retention_days == kept
    assert told in listed(operator)


def test_the_form_holds_what_is_set_and_changes_nothing_else(
    operator: Client, project: Project
) -> None:
    nights = Calendar.objects.create(name="nights")
    project.calendars.add(nights)
    Project.objects.update(description="d", rate_limit_runs=10, retention_days=7)
    form = operator.get(project_url(project)).context["form"]
    sent = {
        "description": form["description"].value(),
        "rate_limit": form["rate_limit"].value(),
        "calendars": form["calendars"].value(),
    }
    operator.post(project_url(project), {**sent, "retention_days": "8"})
    project.refresh_from_db()
    assert project.retention_days == 8
    assert (project.description, project.rate_limit_runs) == ("d", 10)
    assert project.rate_limit_seconds == 60
    assert list(project.calendars.all()) == [nights]


def test_a_changed_limit_applies_to_runs_that_wait(
    operator: Client, project: Project
) -> None:
    for _ in range(3):
        make_run(make_task())
    operator.post(project_url(project), {**EMPTY, "rate_limit": "1/m"})
    assert TaskRun.objects.filter(admission="held").count() == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retention_days", "-1"),
        ("retention_days", "36501"),
        ("retention_days", "long"),
        ("rate_limit", "often"),
        ("calendars", "0"),
    ],
)
def test_an_error_is_shown_on_its_field(
    operator: Client, project: Project, field: str, value: str
) -> None:
    answer = operator.post(project_url(project), {**EMPTY, field: value})
    assert answer.context["form"].errors[field]
    project.refresh_from_db()
    assert project.retention_days is None


def test_an_unknown_project_is_a_404(operator: Client, project: Project) -> None:
    Project.objects.all().delete()
    assert operator.get(project_url(project)).status_code == 404


def test_whoever_may_only_read_is_shown_no_form(
    viewer: Client, project: Project
) -> None:
    assert project_url(project) not in listed(viewer)
    assert viewer.get(project_url(project)).status_code == 403


def test_the_navigation_names_it_to_those_who_may_read_it(viewer: Client) -> None:
    other = sign_in("una", *(each for each in READ if each != "view_project"))
    url = list_url(PROJECTS)
    for client, is_named in ((viewer, True), (other, False)):
        page = client.get("/admin/").content.decode()
        assert (f'href="{url}"' in page) == is_named


def test_the_list_costs_the_same_for_any_number(
    viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    listed(viewer)
    calendar = Calendar.objects.create(name="nights")
    for number in range(8):
        Project.objects.create(name=f"p{number}").calendars.add(calendar)
    # session, user, two of permissions, alerts; then count, projects, calendars
    with django_assert_num_queries(8):
        assert "p7" in listed(viewer)
