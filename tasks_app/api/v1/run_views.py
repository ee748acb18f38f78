"""Runs: `/runs`, and the runs of a task."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from tasks_app.api import docs
from tasks_app.api.actors import actor_of
from tasks_app.api.fields import QuerySerializer, refuse_fields
from tasks_app.api.idempotency import idempotent
from tasks_app.api.pagination import NewestFirst, Pages
from tasks_app.api.v1 import task_examples as examples
from tasks_app.api.v1.lookups import find_run, find_task, runs_shown
from tasks_app.api.v1.run_filters import RunFilters
from tasks_app.api.v1.run_serializers import (
    CancelOut,
    RunEventOut,
    RunOut,
    TriggerIn,
)
from tasks_app.api.v1.task_views import ProjectQuery
from tasks_app.api.views import ApiListView, ApiView
from tasks_app.api.waiting import MAX_WAIT_SECONDS, poll
from tasks_app.ledger import CancelAnswer
from tasks_app.models import RunEvent, TaskRun
from tasks_app.services.runs import run_cancel, run_rerun, run_trigger


class WaitQuery(QuerySerializer):
    wait = serializers.IntegerField(
        min_value=0,
        max_value=MAX_WAIT_SECONDS,
        default=0,
        help_text="Wait up to so many seconds for the run's end.",
    )


def accepted(run: TaskRun, request: Request) -> Response:
    """202: the run is queued, and there is where to follow it."""
    data = RunOut(find_run(str(run.pk)), context={"request": request}).data
    response = Response(data, 202)
    response["Location"] = reverse("run", [run.pk], request=request)
    return response


class RunList(ApiListView):
    actions = {"get": "run.read"}
    pagination_class = NewestFirst
    serializer_class = RunOut
    filterset_class = RunFilters

    def get_queryset(self) -> QuerySet[TaskRun]:
        return runs_shown()

    @extend_schema(
        operation_id="runs_list",
        summary="List runs, newest first",
        responses={200: RunOut(many=True), **docs.problems()},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)


class TaskRuns(ApiListView):
    actions = {"get": "run.read", "post": "run.trigger"}
    queries = dict.fromkeys(actions, ProjectQuery)
    pagination_class = NewestFirst
    serializer_class = RunOut

    def get_queryset(self) -> QuerySet[TaskRun]:
        if "task" not in self.kwargs:  # while the schema is written
            return TaskRun.objects.none()
        return runs_shown().filter(task=find_task(self.kwargs["task"], **self.query))

    @extend_schema(
        operation_id="tasks_runs_list",
        summary="List a task's runs, newest first",
        parameters=[docs.TASK, docs.PROJECT],
        responses={200: RunOut(many=True), **docs.problems(404, 409)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)

    @extend_schema(
        operation_id="tasks_trigger",
        summary="Run a task now",
        description="With its current definition, whether it is paused or not.",
        parameters=[docs.TASK, docs.PROJECT, docs.IDEMPOTENCY_KEY],
        request=TriggerIn,
        responses={202: RunOut, **docs.body_problems(404, 409, 422)},
        examples=examples.TRIGGER,
    )
    @idempotent
    def post(self, request: Request, task: str) -> Response:
        serializer = TriggerIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        run = run_trigger(
            task=find_task(task, **self.query),
            actor=actor_of(request),
            **serializer.validated_data,
        )
        return accepted(run, request)


class RunDetail(ApiView):
    actions = {"get": "run.read"}
    queries = {"get": WaitQuery}

    @extend_schema(
        operation_id="runs_get",
        summary="Read a run, or wait for its end",
        parameters=[docs.RUN_ID, WaitQuery],
        responses={200: RunOut, **docs.problems(404)},
    )
    def get(self, request: Request, run_id: str) -> Response:
        run = poll(
            lambda: find_run(run_id),
            lambda found: found.is_terminal,
            self.query["wait"],
        )
        return Response(RunOut(run, context={"request": request}).data)


class RunEvents(ApiListView):
    actions = {"get": "run.read"}
    pagination_class = Pages
    serializer_class = RunEventOut

    def get_queryset(self) -> QuerySet[RunEvent]:
        if "run_id" not in self.kwargs:  # while the schema is written
            return RunEvent.objects.none()
        run = find_run(self.kwargs["run_id"], TaskRun.objects.only("pk"))
        return RunEvent.objects.filter(run=run).order_by("pk")

    @extend_schema(
        operation_id="runs_events_list",
        summary="List what happened to a run, oldest first",
        parameters=[docs.RUN_ID],
        responses={200: RunEventOut(many=True), **docs.problems(404)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)


class RunCancel(ApiView):
    actions = {"post": "run.cancel"}

    @extend_schema(
        operation_id="runs_cancel",
        summary="Cancel a run",
        description=(
            "At once if it is queued (200); by its worker if it is running (202)."
            " Asking twice is the same as asking once."
        ),
        parameters=[docs.RUN_ID],
        request=None,
        responses={200: CancelOut, 202: CancelOut, **docs.problems(404, 409)},
    )
    def post(self, request: Request, run_id: str) -> Response:
        refuse_fields(request.data)
        run = find_run(run_id, TaskRun.objects.only("pk"))
        answer = run_cancel(run_id=run.pk, actor=actor_of(request))
        if answer is CancelAnswer.CANCELLED:
            return Response({"status": "cancelled"})
        return Response({"status": "cancel_requested"}, 202)


class RunRerun(ApiView):
    actions = {"post": "run.trigger"}

    @extend_schema(
        operation_id="runs_rerun",
        summary="Run a finished run's task again",
        description="With that run's parameters and the task's current definition.",
        parameters=[docs.RUN_ID, docs.IDEMPOTENCY_KEY],
        request=None,
        responses={202: RunOut, **docs.problems(404, 409, 422)},
    )
    @idempotent
    def post(self, request: Request, run_id: str) -> Response:
        refuse_fields(request.data)
        run = find_run(run_id, TaskRun.objects.select_related("task"))
        return accepted(run_rerun(run=run, actor=actor_of(request)), request)
