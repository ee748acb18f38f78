"""Queues: `/queues`, what waits in each, and its limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.fields import StrictSerializer, Text, Whole
from tasks_app.api.pagination import Pages
from tasks_app.api.views import ApiListView, ApiView
from tasks_app.models import Queue
from tasks_app.services.queues import (
    QueueState,
    queue_limit,
    queue_state,
    queue_states,
)

MAX_RUNS_AT_A_TIME = 1_000_000


class QueueIn(StrictSerializer):
    """A queue's limit, over all workers together."""

    max_concurrency = Whole(
        min_value=1,
        max_value=MAX_RUNS_AT_A_TIME,
        required=False,
        allow_null=True,
        help_text="Runs of this queue that run at a time; null for no limit.",
    )
    description = Text(max_length=10_000, required=False, allow_blank=True)


class QueueOut(serializers.Serializer[QueueState]):
    name = serializers.CharField()
    description = serializers.CharField()
    max_concurrency = serializers.IntegerField(allow_null=True)
    queued = serializers.IntegerField(help_text="Runs that wait, for any reason.")
    running = serializers.IntegerField()
    oldest_wait_seconds = serializers.FloatField(
        allow_null=True, help_text="Of the run that has been due for the longest."
    )
    workers_online = serializers.IntegerField(help_text="Workers that serve it.")


class QueueList(ApiListView):
    actions = {"get": "queue.read"}
    pagination_class = Pages
    serializer_class = QueueOut

    def rows(self) -> Any:
        return self.paginate_queryset(queue_states())

    @extend_schema(
        operation_id="queues_list",
        summary="List queues: depth, oldest wait, limit, workers",
        description=(
            "Every queue that has a limit, a task, an unfinished run or a worker."
        ),
        responses={200: QueueOut(many=True), **docs.problems(404)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)


class QueueDetail(ApiView):
    actions = {
        "get": "queue.read",
        "put": "queue.edit",
        "patch": "queue.edit",
        "delete": "queue.delete",
    }

    @extend_schema(
        operation_id="queues_get",
        summary="Read a queue",
        parameters=[docs.QUEUE],
        responses={200: QueueOut, **docs.problems(404)},
    )
    def get(self, _request: Request, queue: str) -> Response:
        return _answer(queue)

    @extend_schema(
        operation_id="queues_replace",
        summary="Set a queue's limit",
        description=(
            "The queue need not exist. What is not given goes back to its default. A"
            " lower limit stops no run."
        ),
        parameters=[docs.QUEUE],
        request=QueueIn,
        responses={200: QueueOut, **docs.body_problems()},
        examples=[
            docs.example("At most ten at a time", {"max_concurrency": 10}, request=True)
        ],
    )
    def put(self, request: Request, queue: str) -> Response:
        return self._limit(request, queue, {"max_concurrency": None, "description": ""})

    @extend_schema(
        operation_id="queues_update",
        summary="Change a queue's limit",
        parameters=[docs.QUEUE],
        request=QueueIn(partial=True),
        responses={200: QueueOut, **docs.body_problems()},
    )
    def patch(self, request: Request, queue: str) -> Response:
        return self._limit(request, queue, {})

    @extend_schema(
        operation_id="queues_delete",
        summary="Take a queue's limit away",
        parameters=[docs.QUEUE],
        responses={204: None, **docs.problems(404)},
    )
    def delete(self, _request: Request, queue: str) -> Response:
        deleted, _by_model = Queue.objects.filter(pk=queue).delete()
        if not deleted:
            raise NotFound("The queue has no limit.")
        return Response(status=204)

    def _limit(
        self, request: Request, queue: str, defaults: Mapping[str, Any]
    ) -> Response:
        serializer = QueueIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        queue_limit(name=queue, values={**defaults, **serializer.validated_data})
        return _answer(queue)


def _answer(name: str) -> Response:
    state = queue_state(name)
    if state is None:
        raise NotFound("There is no such queue.")
    return Response(QueueOut(state).data)
