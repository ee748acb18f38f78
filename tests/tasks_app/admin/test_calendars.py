"""The pages of calendars: windows as rows, what they mean, and what uses them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks_app.models import Calendar, Project
from tasks_app.services.tasks import task_delete
from tests.factories import make_task
from tests.tasks_app.admin.pages import (
    CALENDARS,
    calendar_fields,
    calendar_url,
    list_url,
)

pytestmark = pytest.mark.django_db

NIGHTS = {"cron": "0 22 * * 1-5", "duration_seconds": 8 * 3600}
CHRISTMAS = {"from": "2040-12-24T18:00:00", "until": "2040-12-27T00:00:00"}


def make_calendar(*windows: dict[str, Any], **values: Any) -> Calendar:
    return Calendar.objects.create(
        **{
            "name": "nights",
            "timezone": "Europe/Berlin",
            "windows": list(windows),
            **values,
        }
    )


def send(client: Client, *windows: dict[str, str], **fields: Any) -> dict[str, Any]:
    """Send the form of a new calendar; its errors by field, none if it was saved."""
    form = calendar_fields(*windows, **fields)
    answer = client.post(list_url(CALENDARS, "add"), form)
    if answer.status_code == 302:
        return {}
    errors = {name: str(text) for name, text in answer.context["form"].errors.items()}
    for index, row in enumerate(answer.context["rows"].forms):
        errors |= {f"{index}-{name}": str(text) for name, text in row.errors.items()}
    return errors


class TestForm:
    def test_rows_become_windows(self, operator: Client) -> None:
        errors = send(
            operator,
            {"cron": "0 22 * * 1-5", "lasts": "8"},
            {},
            {"begins_at": "2040-12-24T18:00", "ends_at": "2040-12-27T00:00"},
            action="postpone",
        )
        assert errors == {}
        calendar = Calendar.objects.get()
        assert calendar.windows == [NIGHTS, CHRISTMAS]
        assert (calendar.action, calendar.timezone) == ("postpone", "Europe/Berlin")

    @pytest.mark.parametrize(
        ("windows", "fields", "field", "message"),
        [
            ([{"cron": "0 25 * * *", "lasts": "1"}], {}, "0-cron", "hour"),
            ([{}, {"cron": "x", "lasts": "1"}], {}, "1-cron", ""),
            ([{"cron": "0 2 * * *"}], {}, "0-lasts", "required"),
            ([{"lasts": "2"}], {}, "0-cron", "required"),
            (
                [{"cron": "0 2 * * *", "lasts": "9000"}],
                {},
                "0-lasts",
                "whole number of seconds",
            ),
            ([{"begins_at": "2040-01-01T00:00"}], {}, "0-ends_at", "required"),
            (
                [{"begins_at": "2040-01-02T00:00", "ends_at": "2040-01-01T00:00"}],
                {},
                "0-ends_at",
                "until is after from",
            ),
            (
                [
                    {
                        "cron": "0 2 * * *",
                        "lasts": "1",
                        "begins_at": "2040-01-01T00:00",
                        "ends_at": "2040-01-02T00:00",
                    }
                ],
                {},
                "0-cron",
                "clear one",
            ),
            ([], {"timezone": "Mars"}, "timezone", "Mars"),
            ([], {"name": "taken"}, "name", "already exists"),
            ([], {"name": "42"}, "name", "letter"),
            ([], {"name": "a b"}, "name", "valid"),
            ([], {"action": "maybe"}, "action", "valid choice"),
        ],
    )
    def test_an_error_is_shown_on_its_field(
        self,
        operator: Client,
        windows: list[dict[str, str]],
        fields: dict[str, str],
        field: str,
        message: str,
    ) -> None:
        make_calendar(name="taken")
        errors = send(operator, *windows, **fields)
        assert field in errors
        assert message in errors[field]
        assert Calendar.objects.count() == 1

    def test_it_shows_the_calendar_and_changes_nothing_by_itself(
        self, operator: Client
    ) -> None:
        with_offset = {"from": "2040-01-01T00:00Z", "until": "2040-01-02T00:00Z"}
        calendar = make_calendar(NIGHTS, CHRISTMAS, with_offset)
        form = self.shown(operator, calendar)
        assert (form["windows-0-cron"], form["windows-0-lasts"]) == (
            "0 22 * * 1-5",
            "8",
        )
        assert form["windows-1-begins_at"] == "2040-12-24T18:00:00"
        assert form["windows-2-begins_at"] == "2040-01-01T01:00:00"
        answer = operator.post(calendar_url(calendar, "change"), form)
        assert answer.status_code == 302
        calendar.refresh_from_db()
        assert calendar.windows == [NIGHTS, CHRISTMAS, with_offset]

    def test_an_emptied_row_takes_its_window_away(self, operator: Client) -> None:
        calendar = make_calendar(NIGHTS, CHRISTMAS)
        form = self.shown(operator, calendar)
        form |= {"windows-0-cron": "", "windows-0-lasts": ""}
        operator.post(calendar_url(calendar, "change"), form)
        calendar.refresh_from_db()
        assert calendar.windows == [CHRISTMAS]

    def shown(self, client: Client, calendar: Calendar) -> dict[str, Any]:
        """What a browser would send back."""
        context = client.get(calendar_url(calendar, "change")).context
        rows = context["rows"]
        fields = {}
        for form in (context["form"], rows.management_form, *rows.forms):
            for field in form:
                shown = field.field.widget.format_value(field.value())
                shown = shown[0] if isinstance(shown, list) else shown
                fields[field.html_name] = "" if shown is None else shown
        return fields


class TestPage:
    def test_it_tells_its_windows_and_when_they_come(self, viewer: Client) -> None:
        text = self.text(viewer, make_calendar(NIGHTS, CHRISTMAS))
        assert "for 8h 00m" in text
        assert "Once from 2040-12-24 18:00:00 until 2040-12-27 00:00:00" in text
        assert text.count("22:00</time>") + text.count("06:00</time>") >= 18
        assert "Nothing uses it." in text

    def test_it_names_what_uses_it(self, viewer: Client) -> None:
        calendar = make_calendar(NIGHTS)
        for name in ("nightly", "gone"):
            make_task(name=name).calendars.add(calendar)
        task_delete(task_id=calendar.tasks.get(name="gone").pk, actor="user:test")
        Project.objects.create(name="etl").calendars.add(calendar)
        text = self.text(viewer, calendar)
        assert "nightly" in text
        assert "project etl" in text
        assert "gone" not in text

    def test_delete_asks_first(self, operator: Client) -> None:
        calendar = make_calendar()
        asked = operator.get(calendar_url(calendar, "delete")).content.decode()
        assert "Delete calendar “nights”?" in asked
        assert Calendar.objects.exists()
        operator.post(calendar_url(calendar, "delete"))
        assert not Calendar.objects.exists()

    def test_one_in_use_is_not_deleted(self, operator: Client) -> None:
        calendar = make_calendar()
        make_task(name="nightly").calendars.add(calendar)
        answer = operator.post(calendar_url(calendar, "delete"), follow=True)
        assert "tasks nightly have this calendar" in answer.content.decode()
        assert answer.redirect_chain == [(calendar_url(calendar), 302)]
        assert Calendar.objects.exists()

    def text(self, client: Client, calendar: Calendar) -> str:
        answer = client.get(calendar_url(calendar))
        assert answer.status_code == 200
        return answer.content.decode()


def test_the_statements_of_the_list_do_not_grow_with_calendars(
    viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(3):
        calendar = make_calendar(NIGHTS, name=f"nights-{number}")
        for _ in range(2):
            make_task().calendars.add(calendar)
        # session, user, two of permissions; count, calendars; alerts
        with django_assert_num_queries(7):
            answer = viewer.get(list_url(CALENDARS))
    counts = [row.calendar.task_count for row in answer.context["rows"]]
    assert counts == [2, 2, 2]


def test_one_that_cannot_be_read_is_shown_all_the_same(operator: Client) -> None:
    calendar = make_calendar(NIGHTS, CHRISTMAS, timezone="Atlantis/Lost")
    for url in (
        list_url(CALENDARS),
        calendar_url(calendar),
        calendar_url(calendar, "change"),
    ):
        assert "Atlantis/Lost" in operator.get(url).content.decode()


def test_its_texts_are_inert(viewer: Client) -> None:
    nasty = "<img src=x onerror=alert(1)>"
    calendar = make_calendar(description=nasty)
    for url in (list_url(CALENDARS), calendar_url(calendar)):
        text = viewer.get(url).content.decode()
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text
