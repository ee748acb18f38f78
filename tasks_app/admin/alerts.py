"""The page of alerts: what an operator should know without having asked."""

from __future__ import annotations

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _

from tasks_app import ledger
from tasks_app.admin.base import Screen, demand, done
from tasks_app.models import Alert

PER_PAGE = 50


@admin.register(Alert)
class AlertScreen(Screen):
    read = "alert.read"

    def pages(self) -> list[URLPattern]:
        at = self.address
        return [
            at("", self.list_view, "changelist", "GET"),
            at("<int:alert_id>/resolve/", self.resolve_view, "resolve", "GET", "POST"),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        """Those that stand, or, asked for, those that are resolved."""
        demand(request, "alert.read")
        is_resolved = request.GET.get("resolved") == "true"
        alerts = Alert.objects.select_related("task").order_by("-pk")
        shown = (
            alerts.filter(resolved_at__isnull=False) if is_resolved else alerts.open()
        )
        context = {
            "title": _("Alerts"),
            "page": Paginator(shown, PER_PAGE).get_page(request.GET.get("page")),
            "is_resolved": is_resolved,
        }
        return self.page(request, "gnomon/alert_list.html", context)

    def resolve_view(self, request: HttpRequest, alert_id: int) -> HttpResponse:
        demand(request, "alert.resolve")
        alert = get_object_or_404(Alert, pk=alert_id)
        listing = reverse("admin:tasks_app_alert_changelist")
        if request.method == "POST":
            if alert.resolved_at is None:
                ledger.alert_resolve(alert.kind, [alert.subject])
            return done(request, listing, _("Alert resolved."))
        context = {
            "title": _("Resolve this alert?"),
            "consequences": [
                alert.message,
                _("It is raised again when its cause is seen anew."),
            ],
            "button": _("Resolve"),
            "back": listing,
        }
        return self.page(request, "gnomon/confirm.html", context)
