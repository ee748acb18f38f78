"""The pages of projects: what their tasks share."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks_app.admin.base import Screen, demand, done
from tasks_app.admin.policy_form import RateField, rate_text, rate_values
from tasks_app.errors import InvalidInput
from tasks_app.models import Calendar, Project
from tasks_app.models.project import MAX_RETENTION_DAYS
from tasks_app.services.projects import project_update

PER_PAGE = 50


class ProjectForm(forms.Form):
    """What can be changed of a project; its name is in addresses and stays."""

    description = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        label=gettext_lazy("Description"),
    )
    retention_days = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_RETENTION_DAYS,
        label=gettext_lazy("Days that runs are kept"),
        help_text=gettext_lazy(
            "Unless their task says otherwise. Empty: as the server says. 0: for ever."
        ),
    )
    rate_limit = RateField(
        required=False,
        max_length=40,
        label=gettext_lazy("Rate limit"),
        help_text=gettext_lazy(
            "Starts per time of all its tasks together, such as 10/m, 100/15m or 5/s."
        ),
    )
    calendars = forms.ModelMultipleChoiceField(
        Calendar.objects.all(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label=gettext_lazy("Calendars"),
        help_text=gettext_lazy("Its tasks do not fire within their windows."),
    )


@admin.register(Project)
class ProjectScreen(Screen):
    read = "project.read"

    def pages(self) -> list[URLPattern]:
        at = self.address
        return [
            at("", self.list_view, "changelist", "GET"),
            at("<int:project_id>/change/", self.edit_view, "change", "GET", "POST"),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "project.read")
        projects = Project.objects.prefetch_related("calendars").order_by("name")
        page = Paginator(projects, PER_PAGE).get_page(request.GET.get("page"))
        rows = [(project, rate_text(project)) for project in page]
        context = {"title": _("Projects"), "page": page, "rows": rows}
        return self.page(request, "gnomon/project_list.html", context)

    def edit_view(self, request: HttpRequest, project_id: int) -> HttpResponse:
        demand(request, "project.edit")
        project = get_object_or_404(Project, pk=project_id)
        is_sent = request.method == "POST"
        form = ProjectForm(
            request.POST if is_sent else None,
            initial=_initial(project),
            label_suffix="",
        )
        listing = reverse("admin:tasks_app_project_changelist")
        if is_sent and _save(project.pk, form):
            return done(request, listing, _("Project “%s” saved.") % project.name)
        context = {
            "title": _("Project “%s”") % project.name,
            "form": form,
            "back": listing,
        }
        return self.page(request, "gnomon/project_form.html", context)


def _initial(project: Project) -> dict[str, Any]:
    return {
        "description": project.description,
        "retention_days": project.retention_days,
        "rate_limit": rate_text(project),
        "calendars": project.calendars.all(),
    }


def _save(project_id: int, form: ProjectForm) -> bool:
    """Hand the form to the service; False if something in it is wrong, as it tells."""
    if not form.is_valid():
        return False
    given = form.cleaned_data
    rate = given.pop("rate_limit")
    try:
        project_update(project_id=project_id, values={**given, **rate_values(rate)})
    except InvalidInput as error:
        for one in error.errors:
            field = one.path[0] if one.path[0] in form.fields else None
            form.add_error(field, forms.ValidationError(one.message, one.code))
        return False
    return True
