"""The pages of blackout calendars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from tasks_app.admin.base import Screen, demand, done, refused
from tasks_app.admin.calendar_form import CalendarEditor
from tasks_app.choices import TaskStatus
from tasks_app.errors import CalendarInUse
from tasks_app.formats import duration
from tasks_app.ledger.planning import calendar_rule
from tasks_app.models import Calendar, Project, Task
from tasks_app.policy import may
from tasks_app.rules.blackout import BlackoutSpan, WindowsInvalid, next_blackouts
from tasks_app.rules.schedules import CronSchedule, ScheduleInvalid, describe
from tasks_app.rules.zones import timezone_names
from tasks_app.services.calendars import calendar_delete

PER_PAGE = 50
SPANS_SHOWN = 10
USERS_SHOWN = 100


@admin.register(Calendar)
class CalendarScreen(Screen):
    read = "calendar.read"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request.user, "calendar.create")

    def pages(self) -> list[URLPattern]:
        at, both = self.address, ("GET", "POST")
        return [
            at("", self.list_view, "changelist", "GET"),
            at("add/", self.new_view, "add", *both),
            at("<int:calendar_id>/", self.page_view, "page", "GET"),
            at("<int:calendar_id>/change/", self.edit_view, "change", *both),
            at("<int:calendar_id>/delete/", self.remove_view, "delete", *both),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "calendar.read")
        page = Paginator(calendars_listed(), PER_PAGE).get_page(request.GET.get("page"))
        rows = [CalendarRow(calendar, *next_spans(calendar, 1)) for calendar in page]
        context = {"title": _("Calendars"), "page": page, "rows": rows}
        return self.page(request, "gnomon/calendar_list.html", context)

    def page_view(self, request: HttpRequest, calendar_id: int) -> HttpResponse:
        demand(request, "calendar.read")
        calendar = get_object_or_404(Calendar, pk=calendar_id)
        tasks = Task.objects.existing().filter(calendars=calendar)
        context = {
            "title": _("Calendar %s") % calendar.name,
            "calendar": calendar,
            "windows": [window_text(window) for window in calendar.windows],
            "spans": next_spans(calendar, SPANS_SHOWN),
            "tasks": tasks.order_by("name")[:USERS_SHOWN],
            "projects": Project.objects.filter(calendars=calendar)[:USERS_SHOWN],
        }
        return self.page(request, "gnomon/calendar_page.html", context)

    def new_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "calendar.create")
        return self._edit(request, None)

    def edit_view(self, request: HttpRequest, calendar_id: int) -> HttpResponse:
        demand(request, "calendar.edit")
        return self._edit(request, get_object_or_404(Calendar, pk=calendar_id))

    def _edit(self, request: HttpRequest, calendar: Calendar | None) -> HttpResponse:
        is_sent = request.method == "POST"
        editor = CalendarEditor(calendar, request.POST if is_sent else None)
        if is_sent and (saved := editor.save()):
            messages.success(request, _("Calendar “%s” saved.") % saved.name)
            return HttpResponseRedirect(page_address(saved))
        context = {
            "title": _("Edit calendar") if calendar else _("New calendar"),
            "calendar": calendar,
            "form": editor.form,
            "rows": editor.rows,
            "zones": sorted(timezone_names()),
        }
        return self.page(request, "gnomon/calendar_form.html", context)

    def remove_view(self, request: HttpRequest, calendar_id: int) -> HttpResponse:
        demand(request, "calendar.delete")
        calendar = get_object_or_404(Calendar, pk=calendar_id)
        if request.method == "POST":
            try:
                calendar_delete(calendar_id=calendar.pk)
            except CalendarInUse as error:
                return refused(request, error, page_address(calendar))
            to = reverse("admin:tasks_app_calendar_changelist")
            return done(request, to, _("Calendar “%s” deleted.") % calendar.name)
        context = {
            "title": _("Delete calendar “%s”?") % calendar.name,
            "consequences": [_("It can be deleted only while nothing uses it.")],
            "button": _("Delete"),
            "back": page_address(calendar),
        }
        return self.page(request, "gnomon/confirm.html", context)


@dataclass(frozen=True, slots=True)
class CalendarRow:
    """A calendar as a line of the list, with the blackout that comes next."""

    calendar: Calendar
    next: BlackoutSpan | None = None


def calendars_listed() -> Any:
    """Calendars with the numbers of the tasks and projects that use them."""
    is_existing = ~Q(tasks__status=TaskStatus.DELETED)
    return Calendar.objects.annotate(
        task_count=Count("tasks", filter=is_existing, distinct=True),
        project_count=Count("projects", distinct=True),
    ).order_by("name")


def page_address(calendar: Calendar) -> str:
    return reverse("admin:tasks_app_calendar_page", args=[calendar.pk])


def next_spans(calendar: Calendar, count: int) -> list[BlackoutSpan]:
    """Its next blackouts; one that is in force begins now. None of a calendar that
    cannot be read, say for a time zone that this host has lost."""
    try:
        rule = calendar_rule(calendar)
    except (WindowsInvalid, ScheduleInvalid):
        return []
    return next_blackouts(rule, timezone.now(), count)


def window_text(window: Mapping[str, Any]) -> str:
    """A window in words."""
    if "cron" in window:
        # The zone is the calendar's, which stands beside it.
        begin = describe(CronSchedule(window["cron"], "UTC"))
        length = duration(timedelta(seconds=window["duration_seconds"]))
        return _("%(begin)s, for %(length)s") % {"begin": begin, "length": length}
    return _("once from %(from)s until %(until)s") % {
        name: window[name].replace("T", " ") for name in ("from", "until")
    }
