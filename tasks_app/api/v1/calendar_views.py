"""Blackout calendars: `/calendars`."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone as clock
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from tasks_app.api import docs
from tasks_app.api.fields import Moment, QuerySerializer
from tasks_app.api.idempotency import idempotent
from tasks_app.api.pagination import Pages
from tasks_app.api.v1.calendar_serializers import (
    CALENDAR_EXAMPLES,
    BlackoutSpanOut,
    CalendarIn,
    CalendarOut,
)
from tasks_app.api.v1.lookups import id_of, is_numeric
from tasks_app.api.views import ApiListView, ApiView
from tasks_app.ledger.planning import calendar_rule
from tasks_app.models import Calendar
from tasks_app.rules.blackout import next_blackouts
from tasks_app.services.calendars import (
    calendar_create,
    calendar_delete,
    calendar_update,
)

MAX_WINDOWS_SHOWN = 100
DEFAULT_WINDOWS_SHOWN = 10


class PreviewQuery(QuerySerializer):
    count = serializers.IntegerField(
        min_value=1, max_value=MAX_WINDOWS_SHOWN, default=DEFAULT_WINDOWS_SHOWN
    )

    # `from` is a word of Python's, hence not a plain attribute.
    def get_fields(self) -> dict[str, Any]:
        after = Moment(required=False, help_text="From then on; from now if empty.")
        return {**super().get_fields(), "from": after}


def find_calendar(reference: str) -> Calendar:
    """The calendar of a name or an id.

    Raises:
        NotFound: there is none.
    """
    wanted = (
        {"pk": id_of(reference) or 0} if is_numeric(reference) else {"name": reference}
    )
    calendar = Calendar.objects.filter(**wanted).first()
    if calendar is None:
        raise NotFound("There is no such calendar.")
    return calendar


class CalendarList(ApiListView):
    actions = {"get": "calendar.read", "post": "calendar.create"}
    pagination_class = Pages
    serializer_class = CalendarOut

    def get_queryset(self) -> QuerySet[Calendar]:
        return Calendar.objects.order_by("name")

    @extend_schema(
        operation_id="calendars_list",
        summary="List blackout calendars",
        responses={200: CalendarOut(many=True), **docs.problems(404)},
    )
    def get(self, *args: Any, **kwargs: Any) -> Response:
        return super().get(*args, **kwargs)

    @extend_schema(
        operation_id="calendars_create",
        summary="Define a blackout calendar",
        parameters=[docs.IDEMPOTENCY_KEY],
        request=CalendarIn,
        responses={201: CalendarOut, **docs.body_problems(422)},
        examples=CALENDAR_EXAMPLES,
    )
    @idempotent
    def post(self, request: Request) -> Response:
        serializer = CalendarIn(data=request.data)
        serializer.is_valid(raise_exception=True)
        calendar = calendar_create(values=serializer.validated_data)
        response = Response(CalendarOut(calendar).data, 201)
        response["Location"] = reverse("calendar", [calendar.pk], request=request)
        return response


class CalendarDetail(ApiView):
    actions = {
        "get": "calendar.read",
        "patch": "calendar.edit",
        "delete": "calendar.delete",
    }

    @extend_schema(
        operation_id="calendars_get",
        summary="Read a blackout calendar",
        parameters=[docs.CALENDAR],
        responses={200: CalendarOut, **docs.problems(404)},
    )
    def get(self, _request: Request, calendar: str) -> Response:
        return Response(CalendarOut(find_calendar(calendar)).data)

    @extend_schema(
        operation_id="calendars_update",
        summary="Change parts of a blackout calendar",
        description=(
            "`windows` are replaced as a whole. Fires that are planned from then on see"
            " the change; runs that were postponed already keep their time."
        ),
        parameters=[docs.CALENDAR],
        request=CalendarIn(partial=True),
        responses={200: CalendarOut, **docs.body_problems(404)},
    )
    def patch(self, request: Request, calendar: str) -> Response:
        found = find_calendar(calendar)
        serializer = CalendarIn(data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        changed = calendar_update(
            calendar_id=found.pk, values=serializer.validated_data
        )
        return Response(CalendarOut(changed).data)

    @extend_schema(
        operation_id="calendars_delete",
        summary="Delete a blackout calendar that nothing uses",
        parameters=[docs.CALENDAR],
        responses={204: None, **docs.problems(404, 409)},
    )
    def delete(self, _request: Request, calendar: str) -> Response:
        calendar_delete(calendar_id=find_calendar(calendar).pk)
        return Response(status=204)


class CalendarPreview(ApiView):
    actions = {"get": "calendar.read"}
    queries = {"get": PreviewQuery}

    @extend_schema(
        operation_id="calendars_preview",
        summary="See a calendar's next blackouts",
        description="Windows that overlap or touch are one.",
        parameters=[docs.CALENDAR, PreviewQuery],
        responses={200: BlackoutSpanOut(many=True), **docs.problems(404)},
    )
    def get(self, _request: Request, calendar: str) -> Response:
        rule = calendar_rule(find_calendar(calendar))
        begin = self.query.get("from") or clock.now()
        spans = next_blackouts(rule, begin, self.query["count"])
        return Response([BlackoutSpanOut(span).data for span in spans])
