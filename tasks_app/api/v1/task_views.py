"""Tasks: `/tasks` and what hangs below it."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from tasks_app.api import docs
from tasks_app.api.actors import actor_of, user_of
from tasks_app.api.fields import QuerySerializer, Text, refuse_fields
from tasks_app.api.idempotency import idempotent
from tasks_app.api.pagination import Pages
from tasks_app.api.preconditions import check_if_match, etag, is_unchanged
from tasks_app.api.v1 import task_examples as examples
from tasks_app.api.v1.lookups import find_task, tasks_shown, with_last_runs
from tasks_app.api.v1.task_filters import TaskFilters
from tasks_app.api.v1.task_input import (
    merged_schedule,
    model_values,
    parents,
    project_of,
    replacing_schedule,
    replacing_values,
)
from tasks_app.api.v1.task_serializers import (
    PauseOutlookOut,
    ResumeIn,
    TaskIn,
    TaskOut,
    TaskResumedOut,
    TaskVersionOut,
)
from tasks_app.api.views import ApiListView, ApiView
from tasks_app.models import Task, TaskVersion
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import (
    UNCHANGED,
    task_create,
    task_delete,
    task_pause,
    task_resume,
    task_resume_preview,
    task_update,
)


class ProjectQuery(QuerySerializer):
    project = Text(required=False, max_length=100)


def task_response(task: Task, request: Request, status: int = 200) -> Response:
    """A task as it is now, with its entity tag."""
    (shown,) = with_last_runs(tasks_shown().filter(pk=task.pk))
    tag = etag(shown)
    if request.method == "GET" and is_unchanged(request, tag):
        return Response(status=304, headers={"ETag": tag})
    data = TaskOut(shown, context={"request": request}).data
    return Response(data, status, headers={"ETag": tag})


class TaskList(ApiListView):
    actions = {"get": "task.read", "post": "task.create"}
    pagination_class = Pages
    serializer_class = TaskOut
    filterset_class = TaskFilters

    def get_queryset(self) -> QuerySet[Task]:
        return tasks_shown().order_by("name", "pk")

    def rows(self) -> list[Task]:
        return with_last_runs(super().rows())

    @extend_schema(
        operation_id="tasks_list",
        summary="List tasks",
        responses={200: TaskOut(many=True), **docs.problems(404)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)

    @extend_schema(
        operation_id="tasks_create",
        summary="Define a task",
        parameters=[docs.IDEMPOTENCY_KEY],
        request=TaskIn,
        responses={201: TaskOut, **docs.body_problems(409, 422)},
        examples=examples.CREATE,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        serializer = TaskIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        schedule = given.get("schedule")
        task = task_create(
            values=model_values(given),
            schedule=None if schedule is None else ScheduleInput.of(schedule),
            parents=parents(given, project_of(given)),
            actor=user_of(request),
        )
        response = task_response(task, request, 201)
        response["Location"] = reverse("task", [task.pk], request=request)
        return response


class TaskDetail(ApiView):
    actions = {
        "get": "task.read",
        "put": "task.edit",
        "patch": "task.edit",
        "delete": "task.delete",
    }
    queries = dict.fromkeys(actions, ProjectQuery)

    @extend_schema(
        operation_id="tasks_get",
        summary="Read a task",
        parameters=[docs.TASK, docs.PROJECT, docs.IF_NONE_MATCH],
        responses={200: TaskOut, 304: None, **docs.problems(404, 409)},
    )
    def get(self, request: Request, task: str) -> Response:
        return task_response(find_task(task, **self.query), request)

    @extend_schema(
        operation_id="tasks_replace",
        summary="Replace a task's definition",
        description=(
            "What is not given goes back to its default; the project stays unless"
            " given."
        ),
        parameters=[docs.TASK, docs.PROJECT, docs.IF_MATCH],
        request=TaskIn,
        responses={200: TaskOut, **docs.body_problems(404, 409, 412)},
    )
    @transaction.atomic
    def put(self, request: Request, task: str) -> Response:
        found = self._guarded(request, task)
        serializer = TaskIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        changed = task_update(
            task_id=found.pk,
            values=replacing_values(given),
            schedule=replacing_schedule(found, given),
            parents=parents(given, given.get("project", found.project)),
            actor=user_of(request),
        )
        return task_response(changed, request)

    @extend_schema(
        operation_id="tasks_update",
        summary="Change parts of a task",
        description=(
            "Fields merge into the task, those of `schedule` and `retry` into these."
            " A schedule of another kind takes the old one's place; `null` ends it."
            " Changed limits apply to runs that wait, too; a changed queue, priority"
            " or placement to runs that are created from then on."
        ),
        parameters=[docs.TASK, docs.PROJECT, docs.IF_MATCH],
        request=TaskIn(partial=True),
        responses={200: TaskOut, **docs.body_problems(404, 409, 412)},
        examples=examples.UPDATE,
    )
    @transaction.atomic
    def patch(self, request: Request, task: str) -> Response:
        found = self._guarded(request, task)
        serializer = TaskIn(data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        has_parents = "depends_on" in given
        project = given.get("project", found.project)
        changed = task_update(
            task_id=found.pk,
            values=model_values(given),
            schedule=merged_schedule(found, given),
            parents=parents(given, project) if has_parents else UNCHANGED,
            actor=user_of(request),
        )
        return task_response(changed, request)

    @extend_schema(
        operation_id="tasks_delete",
        summary="Delete a task",
        description="Its history stays; its queued runs are cancelled.",
        parameters=[docs.TASK, docs.PROJECT, docs.IF_MATCH],
        responses={204: None, **docs.problems(404, 409, 412)},
    )
    @transaction.atomic
    def delete(self, request: Request, task: str) -> Response:
        found = self._guarded(request, task)
        task_delete(task_id=found.pk, actor=actor_of(request))
        return Response(status=204)

    def _guarded(self, request: Request, reference: str) -> Task:
        """The task, locked, if the caller has seen it as it is."""
        found = find_task(reference, **self.query)
        Task.objects.select_for_update().get(pk=found.pk)
        found.refresh_from_db(fields=["version", "updated_at"])
        check_if_match(request, found)
        return found


class TaskPause(ApiView):
    actions = {"post": "task.edit"}
    queries = {"post": ProjectQuery}

    @extend_schema(
        operation_id="tasks_pause",
        summary="Stop a task's schedule",
        description=(
            "Runs that are queued or running go on. What comes due meanwhile is"
            " decided about at the resume."
        ),
        parameters=[docs.TASK, docs.PROJECT],
        request=None,
        responses={200: TaskOut, **docs.problems(404, 409)},
    )
    def post(self, request: Request, task: str) -> Response:
        refuse_fields(request.data)
        found = find_task(task, **self.query)
        return task_response(task_pause(task_id=found.pk), request)


class TaskResume(ApiView):
    actions = {"post": "task.edit"}
    queries = {"post": ProjectQuery}

    @extend_schema(
        operation_id="tasks_resume",
        summary="Start a task's schedule again",
        description=(
            "The fires that came due during the pause were missed: the misfire policy"
            " says which of them run, the others are kept as skipped."
        ),
        parameters=[docs.TASK, docs.PROJECT],
        request=ResumeIn,
        responses={
            200: PolymorphicProxySerializer(
                "Resumed", [TaskResumedOut, PauseOutlookOut], None
            ),
            **docs.body_problems(404, 409),
        },
        examples=examples.RESUME,
    )
    def post(self, request: Request, task: str) -> Response:
        serializer = ResumeIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        found = find_task(task, **self.query)
        if serializer.validated_data["dry_run"]:
            outlook = task_resume_preview(task_id=found.pk)
            return Response(PauseOutlookOut(outlook).data)
        resumed = task_resume(task_id=found.pk)
        response = task_response(resumed.task, request)
        # The task's own next_fire_at is the later one, should the two differ.
        response.data = {**PauseOutlookOut(resumed.outlook).data, **response.data}
        return response


class TaskVersions(ApiListView):
    actions = {"get": "task.read"}
    queries = {"get": ProjectQuery}
    pagination_class = Pages
    serializer_class = TaskVersionOut

    def get_queryset(self) -> QuerySet[TaskVersion]:
        if "task" not in self.kwargs:  # while the schema is written
            return TaskVersion.objects.none()
        found = find_task(self.kwargs["task"], **self.query)
        versions = TaskVersion.objects.filter(task=found)
        return versions.select_related("created_by").order_by("-number")

    @extend_schema(
        operation_id="tasks_versions_list",
        summary="List a task's definitions, newest first",
        parameters=[docs.TASK, docs.PROJECT],
        responses={200: TaskVersionOut(many=True), **docs.problems(404, 409)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)
