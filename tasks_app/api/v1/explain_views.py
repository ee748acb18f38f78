"""Explanations: why a run has not started, why a fire did not run."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.fields import Moment, QuerySerializer, Text
from tasks_app.api.v1.lookups import find_run, find_task
from tasks_app.api.views import ApiView
from tasks_app.choices import RunStatus
from tasks_app.explain import explain_fire, explain_run
from tasks_app.models import TaskRun


class FireQuery(QuerySerializer):
    at = Moment(help_text="The nominal time that is asked about.")
    project = Text(required=False, max_length=100)


@extend_schema_field({"type": "object", "additionalProperties": {}})
class Numbers(serializers.DictField):
    """Live numbers by their names, and times."""


class CheckOut(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="Which check it is: stable.")
    passed = serializers.BooleanField()
    detail = serializers.CharField(help_text="For people.")
    numbers = Numbers()


class CandidateOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    free_slots = serializers.IntegerField()
    refusal = serializers.CharField(
        help_text="Why it does not take the run; empty if it does, at the run's turn."
    )


class RunExplanationOut(serializers.Serializer[Any]):
    run = serializers.IntegerField(source="run_id")
    status = serializers.ChoiceField(RunStatus.choices)
    summary = serializers.CharField(
        help_text="The first check that fails, or how it is."
    )
    may_start = serializers.BooleanField(
        help_text="Nothing but its turn holds it back. False once it has started."
    )
    checks = CheckOut(many=True, help_text="In the order in which they decide.")
    workers = CandidateOut(many=True, help_text="Up to 100, those that take it first.")


class FireExplanationOut(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    runs = serializers.ListField(
        child=serializers.IntegerField(),
        source="run_ids",
        help_text="The fire's run, or runs, or the row that sums up skipped ones.",
    )
    summary = serializers.CharField()
    checks = CheckOut(many=True)


class RunExplain(ApiView):
    actions = {"get": "run.read"}

    @extend_schema(
        operation_id="runs_explain",
        summary="Explain why a run has not started",
        description=(
            "The conditions that the dispatcher goes by, each with its live numbers, in"
            " the order in which they decide; for a run that has started, where it is"
            " or how it ended."
        ),
        parameters=[docs.RUN_ID],
        responses={200: RunExplanationOut, **docs.problems(404)},
    )
    def get(self, _request: Request, run_id: str) -> Response:
        run = find_run(run_id, TaskRun.objects.select_related("task"))
        told = explain_run(run)
        shown = {
            "run_id": run.pk,
            "status": run.status,
            "summary": told.summary,
            "may_start": run.status == RunStatus.QUEUED and told.may_start,
            "checks": told.checks,
            "workers": told.workers,
        }
        return Response(RunExplanationOut(shown).data)


class TaskExplain(ApiView):
    actions = {"get": "task.read"}
    queries = {"get": FireQuery}

    @extend_schema(
        operation_id="tasks_explain",
        summary="Explain what became of a fire",
        description="Whether the schedule fires then, and why it did or did not run.",
        parameters=[docs.TASK, FireQuery],
        responses={200: FireExplanationOut, **docs.problems(404, 409)},
    )
    def get(self, _request: Request, task: str) -> Response:
        found = find_task(task, self.query.get("project"))
        at = self.query["at"]
        told = explain_fire(found, at)
        shown = {
            "at": at,
            "run_ids": told.run_ids,
            "summary": told.summary,
            "checks": told.checks,
        }
        return Response(FireExplanationOut(shown).data)
