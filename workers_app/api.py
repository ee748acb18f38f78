"""Workers in the REST API: read only, for they tell of themselves."""

from __future__ import annotations

import re
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.urls import re_path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.fields import MAX_ID
from tasks_app.api.pagination import Pages
from tasks_app.api.views import ApiListView, ApiView
from workers_app.models import WorkerInfo, WorkerStatus


class WorkerFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    status = django_filters.ChoiceFilter(choices=WorkerStatus.choices)

    class Meta:
        model = WorkerInfo
        fields: list[str] = []


class WorkerOut(serializers.Serializer[WorkerInfo]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    status = serializers.ChoiceField(WorkerStatus.choices)
    last_heartbeat = serializers.DateTimeField()
    current_tasks = serializers.IntegerField()
    max_tasks = serializers.IntegerField()
    queues = serializers.ListField(child=serializers.CharField())
    tags = serializers.ListField(child=serializers.CharField())
    version = serializers.CharField()
    host = serializers.DictField()
    started_at = serializers.DateTimeField()


class WorkerList(ApiListView):
    actions = {"get": "worker.read"}
    pagination_class = Pages
    serializer_class = WorkerOut
    filterset_class = WorkerFilters

    def get_queryset(self) -> QuerySet[WorkerInfo]:
        return WorkerInfo.objects.order_by("name")

    @extend_schema(
        operation_id="workers_list",
        summary="List workers",
        responses={200: WorkerOut(many=True), **docs.problems(404)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)


class WorkerDetail(ApiView):
    actions = {"get": "worker.read"}

    @extend_schema(
        operation_id="workers_get",
        summary="Read a worker",
        parameters=[
            OpenApiParameter(
                "worker",
                {"type": "string", "pattern": "^[^/]+$"},
                OpenApiParameter.PATH,
                description="The worker's name or id.",
            )
        ],
        responses={200: WorkerOut, **docs.problems(404)},
    )
    def get(self, _request: Request, worker: str) -> Response:
        return Response(WorkerOut(_find(worker)).data)


def _find(reference: str) -> WorkerInfo:
    """A worker's name may be digits only, so the name goes first."""
    worker = WorkerInfo.objects.filter(name=reference).first()
    if worker is None and re.fullmatch("[0-9]{1,19}", reference):
        worker = WorkerInfo.objects.filter(pk=min(int(reference), MAX_ID)).first()
    if worker is None:
        raise NotFound("There is no such worker.")
    return worker


urlpatterns = [
    re_path(r"^workers/?$", WorkerList.as_view(), name="workers"),
    re_path(
        r"^workers/(?P<worker>[^/\x00-\x1f]+)/?$", WorkerDetail.as_view(), name="worker"
    ),
]
