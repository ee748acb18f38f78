"""What operators look after: `/alerts`, and the circuit `/breakers` of targets."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app import ledger
from tasks_app.api import docs
from tasks_app.api.fields import refuse_fields
from tasks_app.api.pagination import Pages
from tasks_app.api.v1.lookups import id_of
from tasks_app.api.v1.task_serializers import TaskRef
from tasks_app.api.views import ApiListView, ApiView
from tasks_app.choices import AlertKind, BreakerState
from tasks_app.models import Alert, Breaker


class AlertOut(serializers.Serializer[Alert]):
    id = serializers.IntegerField()
    kind = serializers.ChoiceField(AlertKind.choices)
    subject = serializers.CharField(help_text="`task:<id>`, or a target.")
    task = TaskRef(allow_null=True)
    message = serializers.CharField()
    raised_at = serializers.DateTimeField()
    resolved_at = serializers.DateTimeField(allow_null=True)


class AlertFilters(django_filters.FilterSet):  # type: ignore[misc]  # untyped
    resolved = django_filters.ChoiceFilter(
        choices=[("true", "true"), ("false", "false")],
        method="by_state",
        help_text="Those that are resolved; without it, those that stand.",
    )
    kind = django_filters.ChoiceFilter(choices=AlertKind.choices)
    task = django_filters.NumberFilter(
        "task", min_value=1, max_value=2**63 - 1, help_text="The task's id."
    )

    class Meta:
        model = Alert
        fields: list[str] = []

    def by_state(self, alerts: Any, name: str, value: str) -> Any:
        return alerts.filter(resolved_at__isnull=value == "false")

    def filter_queryset(self, queryset: Any) -> Any:
        found = super().filter_queryset(queryset)
        return found if self.form.cleaned_data["resolved"] else found.open()


class AlertList(ApiListView):
    actions = {"get": "alert.read"}
    pagination_class = Pages
    serializer_class = AlertOut
    filterset_class = AlertFilters

    def get_queryset(self) -> QuerySet[Alert]:
        return Alert.objects.select_related("task").order_by("-pk")

    @extend_schema(
        operation_id="alerts_list",
        summary="List alerts that stand, newest first",
        responses={200: AlertOut(many=True), **docs.problems(404)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)


class AlertResolve(ApiView):
    actions = {"post": "alert.resolve"}

    @extend_schema(
        operation_id="alerts_resolve",
        summary="Note that an alert is dealt with",
        description="It is raised again when its cause is seen anew.",
        parameters=[docs.ALERT_ID],
        request=None,
        responses={200: AlertOut, **docs.problems(404)},
    )
    def post(self, request: Request, alert_id: str) -> Response:
        refuse_fields(request.data)
        alerts = Alert.objects.select_related("task")
        alert = alerts.filter(pk=id_of(alert_id) or 0).first()
        if alert is None:
            raise NotFound("There is no such alert.")
        if alert.resolved_at is None:
            ledger.alert_resolve(alert.kind, [alert.subject])
            alert = alerts.get(pk=alert.pk)
        return Response(AlertOut(alert).data)


class BreakerOut(serializers.Serializer[Breaker]):
    target = serializers.CharField(help_text="Host and port.")
    state = serializers.ChoiceField(BreakerState.choices)
    failures = serializers.IntegerField(help_text="In a row.")
    opened_at = serializers.DateTimeField(allow_null=True)
    probe_run = serializers.IntegerField(
        source="probe_run_id", allow_null=True, help_text="The run that is its probe."
    )


class BreakerList(ApiListView):
    actions = {"get": "breaker.read"}
    pagination_class = Pages
    serializer_class = BreakerOut

    def get_queryset(self) -> QuerySet[Breaker]:
        return Breaker.objects.order_by("target")

    @extend_schema(
        operation_id="breakers_list",
        summary="List the circuit breakers of targets that have failed",
        responses={200: BreakerOut(many=True), **docs.problems(404)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)


class BreakerClose(ApiView):
    actions = {"post": "breaker.close"}

    @extend_schema(
        operation_id="breakers_close",
        summary="Let runs go to a target again",
        description="For whoever knows that it is well. Closing twice changes nothing.",
        parameters=[docs.TARGET],
        request=None,
        responses={200: BreakerOut, **docs.problems(404)},
    )
    def post(self, request: Request, target: str) -> Response:
        refuse_fields(request.data)
        ledger.breaker_close(target)
        breaker = Breaker.objects.filter(pk=target).first()
        if breaker is None:
            raise NotFound("There is no such breaker: the target has not failed.")
        return Response(BreakerOut(breaker).data)
