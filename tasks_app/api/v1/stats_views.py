"""How the platform is: `/stats`, what the dashboard shows."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api import docs
from tasks_app.api.views import ApiView
from tasks_app.stats import HOURS, MAX_COUNTED, Stats, stats


class HourOut(serializers.Serializer[Any]):
    hour = serializers.DateTimeField(help_text="When it began.")
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Failed, timed out, lost or expired.")
    other = serializers.IntegerField(help_text="Skipped or cancelled.")


class StatsOut(serializers.Serializer[Stats]):
    at = serializers.DateTimeField()
    tasks_active = serializers.IntegerField()
    tasks_paused = serializers.IntegerField()
    tasks_late = serializers.IntegerField(
        help_text="Active ones whose time has passed and that no beat has planned."
    )
    queued = serializers.IntegerField(help_text=f"Counted up to {MAX_COUNTED}.")
    running = serializers.IntegerField(help_text=f"Counted up to {MAX_COUNTED}.")
    succeeded = serializers.IntegerField(help_text=f"In these {HOURS} hours.")
    failed = serializers.IntegerField(help_text=f"In these {HOURS} hours.")
    success_percent = serializers.FloatField(
        allow_null=True, help_text="Of the two; null while there are none."
    )
    hours = HourOut(
        many=True,
        help_text=f"Runs that ended within the last {HOURS} hours of the clock, oldest"
        " first; the last is not over yet.",
    )
    workers_online = serializers.IntegerField()
    workers_known = serializers.IntegerField()
    alerts_open = serializers.IntegerField()


class StatsView(ApiView):
    actions = {"get": "stats.read"}

    @extend_schema(
        operation_id="stats_get",
        summary="Read how the platform is",
        description="From hourly sums: it costs the same however long the history.",
        responses={200: StatsOut, **docs.problems()},
    )
    def get(self, _request: Request) -> Response:
        return Response(StatsOut(stats()).data)
