"""Workers in the REST API: they tell of themselves, and can be told to drain."""

from __future__ import annotations

import re
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.urls import re_path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.actors import actor_of
from tasks_app.api.fields import MAX_ID, refuse_fields
from tasks_app.api.pagination import Pages
from tasks_app.api.views import ApiListView, ApiView
from workers_app.draining import with_runs_held, worker_drain
from workers_app.models import SHOWN_STATUSES, WorkerInfo, WorkerStatus

WORKER = OpenApiParameter(
    "worker",
    {"type": "string", "pattern": "^[^/]+$"},
    OpenApiParameter.PATH,
    description="The worker's name or id.",
)


class WorkerFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    status = django_filters.ChoiceFilter(choices=SHOWN_STATUSES, method="filter_status")

    class Meta:
        model = WorkerInfo
        fields: list[str] = []

    def filter_status(
        self, workers: QuerySet[WorkerInfo], name: str, value: str
    ) -> QuerySet[WorkerInfo]:
        draining = Q(is_draining=True) & ~Q(status=WorkerStatus.OFFLINE)
        if value == "draining":
            return workers.filter(draining)
        return workers.filter(status=value).exclude(draining)


class WorkerOut(serializers.Serializer[WorkerInfo]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    status = serializers.ChoiceField(SHOWN_STATUSES, source="shown_status")
    is_draining = serializers.BooleanField(
        help_text="It claims nothing new, and finishes what it has."
    )
    runs_held = serializers.IntegerField(
        help_text="Runs that it has in hand: what is left while it drains."
    )
    last_heartbeat = serializers.DateTimeField()
    current_tasks = serializers.IntegerField(help_text="At its last heartbeat.")
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

    def rows(self) -> list[WorkerInfo]:
        return with_runs_held(super().rows())

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
        parameters=[WORKER],
        responses={200: WorkerOut, **docs.problems(404)},
    )
    def get(self, _request: Request, worker: str) -> Response:
        return _shown(_find(worker))


class WorkerDrain(ApiView):
    actions = {"post": "worker.drain"}

    @extend_schema(
        operation_id="workers_drain",
        summary="Have a worker claim nothing new",
        description=(
            "At once; it finishes what it has, and `runs_held` tells how much is left."
            " It ends when the worker is started anew. Asking twice is the same as"
            " asking once."
        ),
        parameters=[WORKER],
        request=None,
        responses={200: WorkerOut, **docs.problems(404, 409)},
    )
    def post(self, request: Request, worker: str) -> Response:
        return _drain(request, worker, is_draining=True)


class WorkerUndrain(ApiView):
    actions = {"post": "worker.drain"}

    @extend_schema(
        operation_id="workers_undrain",
        summary="Let a draining worker claim again",
        parameters=[WORKER],
        request=None,
        responses={200: WorkerOut, **docs.problems(404, 409)},
    )
    def post(self, request: Request, worker: str) -> Response:
        return _drain(request, worker, is_draining=False)


def _drain(request: Request, reference: str, *, is_draining: bool) -> Response:
    refuse_fields(request.data)
    actor = actor_of(request)
    worker = _find(reference)
    return _shown(worker_drain(worker=worker, actor=actor, is_draining=is_draining))


def _shown(worker: WorkerInfo) -> Response:
    return Response(WorkerOut(*with_runs_held([worker])).data)


def _find(reference: str) -> WorkerInfo:
    """A worker's name may be digits only, so the name goes first."""
    worker = WorkerInfo.objects.filter(name=reference).first()
    if worker is None and re.fullmatch("[0-9]{1,19}", reference):
        worker = WorkerInfo.objects.filter(pk=min(int(reference), MAX_ID)).first()
    if worker is None:
        raise NotFound("There is no such worker.")
    return worker


PATH = r"workers/(?P<worker>[^/\x00-\x1f]+)"

urlpatterns = [
    re_path(r"^workers/?$", WorkerList.as_view(), name="workers"),
    re_path(rf"^{PATH}/?$", WorkerDetail.as_view(), name="worker"),
    re_path(rf"^{PATH}/drain/?$", WorkerDrain.as_view(), name="worker-drain"),
    re_path(rf"^{PATH}/undrain/?$", WorkerUndrain.as_view(), name="worker-undrain"),
]
