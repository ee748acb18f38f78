"""What every view of the API shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks_app.api.exceptions import InvalidQuery
from tasks_app.api.fields import QuerySerializer, check_query_names
from tasks_app.api.request_id import HEADER, request_id


class ApiView(APIView):
    """Names its actions for the policy and its query parameters, both by method."""

    actions: ClassVar[Mapping[str, str]] = {}
    queries: ClassVar[Mapping[str, type[QuerySerializer]]] = {}
    query: Mapping[str, Any]

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        with structlog.contextvars.bound_contextvars(request_id=request_id(request)):
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        method = (request.method or "").lower()
        if not hasattr(self, method):
            return  # 405 follows
        serializer = self.queries.get("get" if method == "head" else method)
        given = request.query_params.dict()
        if given:
            check_query_names(given, self.query_names(serializer))
        self.query = serializer.parse(given) if serializer else {}

    def query_names(self, serializer: type[QuerySerializer] | None) -> Collection[str]:
        """The query parameters that this request may have."""
        return list(serializer().fields) if serializer else []

    def options(self, *_args: Any, **_kwargs: Any) -> Response:
        """The methods allowed here, in `Allow`."""
        return Response(status=204)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response[HEADER] = request_id(request)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault(
            "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"
        )
        return response


class StrictFilterBackend(DjangoFilterBackend):  # type: ignore[misc]  # untyped
    """A wrong value of a filter is an error that names the parameter."""

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        filterset = self.valid_filterset(request, queryset, view)
        return queryset if filterset is None else filterset.qs

    def valid_filterset(self, request: Request, queryset: Any, view: Any) -> Any:
        """The view's filters with what the query gives.

        Raises:
            InvalidQuery: naming each wrong parameter.
        """
        filterset = self.get_filterset(request, queryset, view)
        if filterset is None:
            return None
        if not filterset.is_valid():
            raise InvalidQuery(
                {
                    name: [error.messages[0] for error in errors.as_data()]
                    for name, errors in filterset.errors.items()
                }
            )
        return filterset


class ApiListView(ApiView, GenericAPIView[Any]):
    """A list of rows: filtered, paged, and serialised."""

    filter_backends = [StrictFilterBackend]
    filterset_class: ClassVar[Any] = None

    def query_names(self, serializer: type[QuerySerializer] | None) -> Collection[str]:
        if self.request.method not in {"GET", "HEAD"}:
            return super().query_names(serializer)
        names = list(self.filterset_class.base_filters) if self.filterset_class else []
        return [
            *super().query_names(serializer),
            *names,
            *getattr(self.paginator, "query_names", ()),
        ]

    def rows(self) -> Any:
        """The rows of the page that was asked for."""
        return self.paginate_queryset(self.filter_queryset(self.get_queryset()))

    def get(self, *_args: Any, **_kwargs: Any) -> Response:
        serializer = self.get_serializer(self.rows(), many=True)
        return self.get_paginated_response(serializer.data)
