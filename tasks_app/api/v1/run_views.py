"""Runs: `/runs`, and the runs of a task."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.actors import actor_of
from tasks_app.api.fields import QuerySerializer, refuse_fields
from tasks_app.api.idempotency import idempotent
from tasks_app.api.pagination import NewestFirst, Pages
from tasks_app.api.v1 import task_examples as examples
from tasks_app.api.v1.lookups import find_run, find_task, find_to_run
from tasks_app.api.v1.run_filters import RunFilters
from tasks_app.api.v1.run_serializers import (
    CancelOut,
    RerunIn,
    RunEventOut,
    RunOut,
    TriggerIn,
)
from tasks_app.api.v1.task_views import ProjectQuery
from tasks_app.api.views import ApiListView, ApiView, StrictFilterBackend
from tasks_app.api.waiting import MAX_WAIT_SECONDS, poll
from tasks_app.models import RunEvent, Task, TaskRun, TaskVersion
from tasks_app.run_history import RunSearch
from tasks_app.services.runs import (
    run_cancel,
    run_rerun,
    run_rerun_failed,
    run_trigger,
)


class WaitQuery(QuerySerializer):
    wait = serializers.IntegerField(
        min_value=0,
        max_value=MAX_WAIT_SECONDS,
        default=0,
        help_text="Wait up to so many seconds for the run's end.",
    )


def accepted(run: TaskRun, request: Request) -> Response:
    """202: the run is queued, and there is where to follow it."""
    data = RunOut(run, context={"request": request}).data
    return Response(data, 202, headers={"Location": data["links"]["self"]})


def as_shown(run: TaskRun, task: Task) -> TaskRun:
    """A run of a task's current definition that has just been created, as one of
    `runs_shown`: all of it is known, so nothing is read again."""
    run.version = TaskVersion(pk=run.version_id, task=task, number=task.version)
    run.max_attempts = task.max_attempts  # type: ignore[attr-defined]  # annotated
    return run


class RunList(ApiListView):
    actions = {"get": "run.read"}
    pagination_class = NewestFirst
    serializer_class = RunOut
    filterset_class = RunFilters

    def get_queryset(self) -> QuerySet[TaskRun]:
        return TaskRun.objects.all()

    def rows(self) -> Any:
        backend = StrictFilterBackend()
        filters = backend.valid_filterset(self.request, self.get_queryset(), self)
        return self.paginate_queryset(filters.search())

    @extend_schema(
        operation_id="runs_list",
        summary="List runs, newest first",
        description=(
            "A page looks at a bounded number of runs. Where few of them match, it is"
            " short or even empty, `searched_to` says how far it has come, and `next`"
            " goes on; there are no more when `next` is null. Times are sought among"
            " runs whose day is at most a week before."
        ),
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
        return TaskRun.objects.none()  # for the schema

    def rows(self) -> Any:
        tasks = Task.objects.existing().only("pk")
        task = find_task(self.kwargs["task"], **self.query, tasks=tasks)
        search: Any = RunSearch(task_ids=(task.pk,))
        return self.paginate_queryset(search)

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
        responses={202: RunOut, **docs.body_problems(404, 409, 422, 429)},
        examples=examples.TRIGGER,
    )
    @idempotent
    def post(self, request: Request, task: str) -> Response:
        serializer = TriggerIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        found, version_id = find_to_run(task, **self.query)
        run = run_trigger(
            task=found,
            version_id=version_id,
            actor=actor_of(request),
            **serializer.validated_data,
        )
        return accepted(as_shown(run, found), request)


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
        return run.events.order_by("pk")

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
            " Asking twice is the same as asking once. With a workflow's root run go"
            " the unfinished runs below it, even if the root itself has ended, and what"
            " they would have started is skipped."
        ),
        parameters=[docs.RUN_ID],
        request=None,
        responses={200: CancelOut, 202: CancelOut, **docs.problems(404, 409)},
    )
    def post(self, request: Request, run_id: str) -> Response:
        refuse_fields(request.data)
        run = find_run(run_id, TaskRun.objects.only("pk"))
        answers = run_cancel(run_id=run.pk, actor=actor_of(request))
        data: dict[str, Any] = CancelOut(answers).data
        return Response(data, 202 if data["cancel_requested"] else 200)


class RunRerun(ApiView):
    actions = {"post": "run.trigger"}

    @extend_schema(
        operation_id="runs_rerun",
        summary="Run a finished run's task again",
        description=(
            "With that run's parameters and the task's current definition; what waits"
            ' below it follows. `{"from": "failed"}`, at the root run of a finished'
            " workflow, starts again at each run that failed and that no other failed"
            " one leads to: the answer is the root of the new workflow, and"
            " `/runs?root=<its id>` lists the others."
        ),
        parameters=[docs.RUN_ID, docs.IDEMPOTENCY_KEY],
        request=RerunIn,
        responses={202: RunOut, **docs.body_problems(404, 409, 422, 429)},
        examples=examples.RERUN,
    )
    @idempotent
    def post(self, request: Request, run_id: str) -> Response:
        serializer = RerunIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        run = find_run(run_id, TaskRun.objects.select_related("task"))
        is_whole = "from" not in serializer.validated_data
        rerun = run_rerun if is_whole else run_rerun_failed
        new = rerun(run=run, actor=actor_of(request))
        return accepted(find_run(str(new.pk)), request)
