"""Projects: `/projects`, the limits and blackouts that their tasks share."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.fields import StrictSerializer, Text, Whole
from tasks_app.api.pagination import Pages
from tasks_app.api.v1.calendar_serializers import CalendarNames, CalendarRefs
from tasks_app.api.v1.task_input import rate_limit_values
from tasks_app.api.v1.task_serializers import RateLimitIn, RateLimitOut
from tasks_app.api.views import ApiListView, ApiView
from tasks_app.models import Project
from tasks_app.models.project import MAX_RETENTION_DAYS
from tasks_app.services.projects import project_update


class ProjectIn(StrictSerializer):
    """The parts of a project that can be changed."""

    description = Text(max_length=10_000, required=False, allow_blank=True)
    rate_limit = RateLimitIn(
        required=False, allow_null=True, help_text="Of all its tasks together."
    )
    calendars = CalendarNames(required=False, help_text="Blackouts, by name.")
    retention_days = Whole(
        min_value=0,
        max_value=MAX_RETENTION_DAYS,
        required=False,
        allow_null=True,
        help_text="Days that runs of its tasks are kept; 0: for ever. RETENTION_DAYS by"
        " default.",
    )


class ProjectOut(serializers.Serializer[Project]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    rate_limit = RateLimitOut(allow_null=True)
    calendars = CalendarRefs()
    retention_days = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()


def projects_shown() -> QuerySet[Project]:
    return Project.objects.prefetch_related("calendars").order_by("name")


def find_project(name: str) -> Project:
    """Raises:
    NotFound: there is no project of this name.
    """
    project = projects_shown().filter(name=name).first()
    if project is None:
        raise NotFound("There is no such project.")
    return project


class ProjectList(ApiListView):
    actions = {"get": "project.read"}
    pagination_class = Pages
    serializer_class = ProjectOut

    def get_queryset(self) -> QuerySet[Project]:
        return projects_shown()

    @extend_schema(
        operation_id="projects_list",
        summary="List projects",
        responses={200: ProjectOut(many=True), **docs.problems(404)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)


class ProjectDetail(ApiView):
    actions = {"get": "project.read", "patch": "project.edit"}

    @extend_schema(
        operation_id="projects_get",
        summary="Read a project",
        parameters=[docs.PROJECT_NAME],
        responses={200: ProjectOut, **docs.problems(404)},
    )
    def get(self, _request: Request, project: str) -> Response:
        return Response(ProjectOut(find_project(project)).data)

    @extend_schema(
        operation_id="projects_update",
        summary="Change a project's limit, blackouts and retention",
        description="A changed rate limit applies to runs that wait, too.",
        parameters=[docs.PROJECT_NAME],
        request=ProjectIn(partial=True),
        responses={200: ProjectOut, **docs.body_problems(404)},
        examples=[
            docs.example(
                "At most 100 starts a minute",
                {"rate_limit": {"runs": 100, "per_seconds": 60}},
                request=True,
            )
        ],
    )
    def patch(self, request: Request, project: str) -> Response:
        found = find_project(project)
        serializer = ProjectIn(data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        names = ("description", "calendars", "retention_days")
        values = {name: given[name] for name in names if name in given}
        project_update(project_id=found.pk, values=values | rate_limit_values(given))
        return Response(ProjectOut(find_project(project)).data)
