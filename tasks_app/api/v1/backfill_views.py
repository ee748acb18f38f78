"""Backfill: `/tasks/{task}/backfill`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.actors import actor_of
from tasks_app.api.fields import Flag, Moment, StrictSerializer
from tasks_app.api.idempotency import idempotent
from tasks_app.api.v1.lookups import find_task
from tasks_app.api.v1.task_views import ProjectQuery
from tasks_app.api.views import ApiView
from tasks_app.services.backfill import (
    Backfill,
    BackfillInput,
    backfill_create,
    backfill_preview,
)

FIRES_SHOWN = 5
ORDERS = ["oldest_first", "newest_first"]


class BackfillIn(StrictSerializer):
    """The span to make up for, and how."""

    to = Moment(help_text="Up to just before then; not in the future.")
    dry_run = Flag(default=True, help_text="Only answer what would run.")
    order = serializers.ChoiceField(ORDERS, default=ORDERS[0])
    include_blackouts = Flag(
        default=False, help_text="Run the fires within blackouts, too."
    )

    # `from` is a word of Python's, hence not a plain attribute.
    def get_fields(self) -> dict[str, Any]:
        begin = Moment(help_text="The nominal times from then on.")
        return {"from": begin, **super().get_fields()}


class BackfillOut(serializers.Serializer[Any]):
    dry_run = serializers.BooleanField()
    count = serializers.IntegerField(help_text="Runs that are made, or would be.")
    first = serializers.ListField(
        child=serializers.DateTimeField(),
        help_text=f"The nominal times of the first {FIRES_SHOWN}, in their order.",
    )
    last = serializers.ListField(
        child=serializers.DateTimeField(),
        help_text=f"Of the last {FIRES_SHOWN}, unless they are among the first.",
    )
    already_run = serializers.IntegerField(help_text="Fires that ran, or will.")
    in_blackout = serializers.IntegerField(help_text="Fires left out for a blackout.")
    run_ids = serializers.ListField(child=serializers.IntegerField())


def _shown(found: Backfill, *, is_dry: bool) -> dict[str, Any]:
    shown = {
        "dry_run": is_dry,
        "count": len(found.fires),
        "first": found.fires[:FIRES_SHOWN],
        "last": found.fires[FIRES_SHOWN:][-FIRES_SHOWN:],
        "already_run": found.already_run,
        "in_blackout": found.in_blackout,
        "run_ids": found.run_ids,
    }
    data: dict[str, Any] = BackfillOut(shown).data
    return data


class TaskBackfill(ApiView):
    actions = {"post": "run.backfill"}
    queries = {"post": ProjectQuery}

    @extend_schema(
        operation_id="tasks_backfill",
        summary="Run a task for nominal times of the past that did not run",
        description=(
            "Makes a run for each nominal time of the task's schedule, as it is now, in"
            " [from, to), but for those that ran already or will: by the schedule or an"
            " earlier backfill. Runs of an overlap policy wait for each other. Without"
            " `dry_run: false` nothing is made."
        ),
        parameters=[docs.TASK, docs.PROJECT, docs.IDEMPOTENCY_KEY],
        request=BackfillIn,
        responses={
            200: BackfillOut,
            202: BackfillOut,
            **docs.body_problems(404, 409, 422, 429),
        },
        examples=[
            docs.example(
                "A day that was missed",
                {
                    "from": "2026-11-23T00:00:00Z",
                    "to": "2026-11-24T00:00:00Z",
                    "dry_run": False,
                },
                request=True,
            )
        ],
    )
    @idempotent
    def post(self, request: Request, task: str) -> Response:
        serializer = BackfillIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
        wanted = BackfillInput(
            given["from"],
            given["to"],
            is_newest_first=given["order"] == "newest_first",
            with_blackouts=given["include_blackouts"],
        )
        found = find_task(task, **self.query)
        if given["dry_run"]:
            preview = backfill_preview(task_id=found.pk, given=wanted)
            return Response(_shown(preview, is_dry=True))
        made = backfill_create(task_id=found.pk, given=wanted, actor=actor_of(request))
        return Response(_shown(made, is_dry=False), 202)
