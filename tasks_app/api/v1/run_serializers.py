"""Runs as they go out, and what a trigger may say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.reverse import reverse

from tasks_app.api.fields import QuickSerializer, StrictSerializer, Text
from tasks_app.api.v1.task_serializers import TaskRef
from tasks_app.choices import EventKind, RunStatus, Trigger
from tasks_app.ledger import CancelAnswer
from tasks_app.models import RunEvent, TaskRun

LINKS = {
    "self": "run",
    "events": "run-events",
    "logs": "run-logs",
    "logs_text": "run-logs-text",
    "logs_stream": "run-logs-stream",
    "cancel": "run-cancel",
    "rerun": "run-rerun",
}
"""The links of a run, and the routes they lead to."""


class TriggerIn(StrictSerializer):
    params = serializers.DictField(
        required=False, help_text="Reach the job as PARAM_<NAME>."
    )
    reason = Text(
        max_length=500, required=False, allow_blank=True, help_text="For people."
    )


class RunWorkerRef(QuickSerializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()


@extend_schema_field(
    {
        "type": "object",
        "required": list(LINKS),
        "properties": {name: {"type": "string", "format": "uri"} for name in LINKS},
    }
)
class LinksField(serializers.Field[Any, Any, Any, Any]):
    def to_representation(self, run: TaskRun) -> dict[str, str]:
        own = reverse("run", [run.pk], request=self.context["request"])
        return {name: own + below for name, below in _below_a_run().items()}


@cache
def _below_a_run() -> dict[str, str]:
    """By link, what it adds to the address of the run, where it begins."""
    own = reverse("run", [0])
    return {
        name: reverse(route, [0]).removeprefix(own) for name, route in LINKS.items()
    }


@extend_schema_field({"description": "Any JSON value; null while there is none."})
class AnyJson(serializers.JSONField):
    pass


class RunOut(QuickSerializer[TaskRun]):
    id = serializers.IntegerField()
    task = TaskRef()
    project = serializers.CharField(source="task.project.name")
    status = serializers.ChoiceField(RunStatus.choices)
    trigger = serializers.ChoiceField(Trigger.choices)
    triggered_by = serializers.CharField()
    trigger_reason = serializers.CharField(
        help_text="Why a person asked for it, in their words; or why it was postponed."
    )
    scheduled_for = serializers.DateTimeField(help_text="The nominal time.")
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(
        help_text="When it, or its next attempt, may start."
    )
    started_at = serializers.DateTimeField(
        allow_null=True, help_text="Of the newest attempt."
    )
    completed_at = serializers.DateTimeField(allow_null=True)
    queued_seconds = serializers.SerializerMethodField(
        help_text="How long the newest attempt waited from due_at to its start."
    )
    duration_seconds = serializers.SerializerMethodField(
        help_text="From the newest attempt's start to the end."
    )
    attempt = serializers.IntegerField(help_text="How often it has been started.")
    max_attempts = serializers.IntegerField()
    worker = RunWorkerRef(allow_null=True)
    worker_id = serializers.IntegerField(allow_null=True)
    queue = serializers.CharField()
    exit_code = serializers.IntegerField(allow_null=True)
    result = AnyJson()
    error = serializers.CharField()
    reason = serializers.CharField(help_text="Why it ended as it did, or was skipped.")
    params = serializers.DictField()
    version = serializers.IntegerField(
        source="version.number", help_text="Of the task's definition that it runs."
    )
    root = serializers.IntegerField(  # type: ignore[assignment]  # a field, not the property
        source="root_id", allow_null=True, help_text="The run that began the workflow."
    )
    parent = serializers.IntegerField(  # type: ignore[assignment]  # as above
        source="parent_id", allow_null=True
    )
    rerun_of = serializers.IntegerField(source="rerun_of_id", allow_null=True)
    log_truncated = serializers.BooleanField()
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    links = LinksField(source="*")

    @extend_schema_field(serializers.FloatField(allow_null=True))
    def get_queued_seconds(self, run: TaskRun) -> float | None:
        # While a retry waits, due_at is the next attempt's and started_at the last's.
        is_waiting = run.status == RunStatus.QUEUED
        return None if is_waiting else _seconds(run.due_at, run.started_at)

    @extend_schema_field(serializers.FloatField(allow_null=True))
    def get_duration_seconds(self, run: TaskRun) -> float | None:
        return _seconds(run.started_at, run.completed_at)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds())


class RunEventOut(QuickSerializer[RunEvent]):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.ChoiceField(EventKind.choices)
    attempt = serializers.IntegerField()
    status = serializers.ChoiceField(
        RunStatus.choices, help_text="The run's status after the event."
    )
    actor = serializers.CharField()
    detail = serializers.SerializerMethodField()

    @extend_schema_field(OpenApiTypes.ANY)
    def get_detail(self, event: RunEvent) -> Any:
        return event.detail


class RerunIn(StrictSerializer):
    def get_fields(self) -> dict[str, Any]:  # `from` is a word of Python's
        start = serializers.ChoiceField(
            ["failed"],
            required=False,
            help_text="Start at what failed in the workflow of this root run.",
        )
        return {**super().get_fields(), "from": start}


class CancelOut(QuickSerializer[Mapping[int, CancelAnswer]]):
    status = serializers.SerializerMethodField(
        help_text="cancelled, or cancel_requested while a worker has to stop a run."
    )
    cancelled = serializers.SerializerMethodField(
        help_text="The runs that are cancelled now."
    )
    cancel_requested = serializers.SerializerMethodField(
        help_text="The runs that their workers are told to stop."
    )

    @extend_schema_field(serializers.ChoiceField(["cancelled", "cancel_requested"]))
    def get_status(self, answers: Mapping[int, CancelAnswer]) -> str:
        is_asked = CancelAnswer.REQUESTED in answers.values()
        return "cancel_requested" if is_asked else "cancelled"

    @extend_schema_field(serializers.ListField(child=serializers.IntegerField()))
    def get_cancelled(self, answers: Mapping[int, CancelAnswer]) -> list[int]:
        return _ids(answers, CancelAnswer.CANCELLED)

    @extend_schema_field(serializers.ListField(child=serializers.IntegerField()))
    def get_cancel_requested(self, answers: Mapping[int, CancelAnswer]) -> list[int]:
        return _ids(answers, CancelAnswer.REQUESTED)


def _ids(answers: Mapping[int, CancelAnswer], wanted: CancelAnswer) -> list[int]:
    return sorted(run_id for run_id, answer in answers.items() if answer is wanted)


class LogChunkOut(QuickSerializer[Any]):
    seq = serializers.IntegerField(
        help_text="Where it stands in the run's output, over all attempts."
    )
    attempt = serializers.IntegerField()
    at = serializers.DateTimeField()
    stream = serializers.CharField(help_text="stdout, stderr, or gnomon: our remarks.")
    text = serializers.CharField()


class LogsOut(QuickSerializer[Any]):
    results = LogChunkOut(many=True)
    next_after = serializers.IntegerField(help_text="Where to go on: `?after=`.")
    is_complete = serializers.BooleanField(help_text="The run has ended, all is here.")
