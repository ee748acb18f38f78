"""The OpenAPI document, and Swagger UI over it, without leaving this host."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseRedirect
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request

from tasks_app.api.views import ApiView

_DOCS_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self'"
    " 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " frame-ancestors 'none'"
)
"""Swagger UI is started by an inline script, and styles its parts inline."""


@extend_schema(exclude=True)
class Schema(ApiView, SpectacularAPIView):
    """YAML, or JSON for whoever asks for it by `Accept` or `?format=json`."""

    actions = {"get": "schema.read"}
    content_negotiation_class = DefaultContentNegotiation

    def query_names(self, serializer: Any) -> list[str]:
        return ["format", "lang", "version"]


@extend_schema(exclude=True)
class Docs(ApiView, SpectacularSwaggerView):
    actions = {"get": "schema.read"}

    def query_names(self, serializer: Any) -> list[str]:
        return ["lang", "version"]

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        if response.status_code == 401 and _is_browser(request._request):
            target = f"{reverse('admin:login')}?next={request.path}"
            response = HttpResponseRedirect(target)
        response.headers.setdefault("Content-Security-Policy", _DOCS_POLICY)
        return super().finalize_response(request, response, *args, **kwargs)


def _is_browser(request: HttpRequest) -> bool:
    return "text/html" in request.headers.get("Accept", "")
