"""The pages of queues: what waits and runs in each, and its limit."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks_app.admin.base import Screen, demand, done
from tasks_app.errors import InvalidInput
from tasks_app.models import Queue
from tasks_app.services.queues import queue_limit, queue_state, queue_states

MAX_RUNS_AT_A_TIME = 1_000_000


class QueueForm(forms.Form):
    """A queue's limit, over all workers together."""

    max_concurrency = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_RUNS_AT_A_TIME,
        label=gettext_lazy("Runs at a time"),
        help_text=gettext_lazy("On all workers together. Empty: no limit."),
    )
    description = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 2}),
        label=gettext_lazy("Description"),
    )


@admin.register(Queue)
class QueueScreen(Screen):
    read = "queue.read"

    def pages(self) -> list[URLPattern]:
        at = self.address
        return [
            at("", self.list_view, "changelist", "GET"),
            # A queue's name may be any text: it stands in the query, not in the path.
            at("limit/", self.limit_view, "limit", "GET", "POST"),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "queue.read")
        states = queue_states()
        context = {
            "title": _("Queues"),
            "queues": states,
            "is_busy": any(state.running for state in states),
        }
        return self.page(request, "gnomon/queue_list.html", context)

    def limit_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "queue.edit")
        state = queue_state(request.GET.get("queue", ""))
        if state is None:
            raise Http404
        is_sent = request.method == "POST"
        initial = {
            "max_concurrency": state.max_concurrency,
            "description": state.description,
        }
        form = QueueForm(
            request.POST if is_sent else None, initial=initial, label_suffix=""
        )
        listing = reverse("admin:tasks_app_queue_changelist")
        if is_sent and _save(state.name, form):
            return done(request, listing, _("Queue “%s” saved.") % state.name)
        context = {
            "title": _("Limit of queue “%s”") % state.name,
            "queue": state,
            "form": form,
            "back": listing,
        }
        return self.page(request, "gnomon/queue_form.html", context)


def _save(name: str, form: QueueForm) -> bool:
    """Hand the form to the service; False if something in it is wrong, as it tells."""
    if not form.is_valid():
        return False
    values: dict[str, Any] = form.cleaned_data
    try:
        queue_limit(name=name, values=values)
    except InvalidInput as error:
        for one in error.errors:
            field = one.path[0] if one.path[0] in form.fields else None
            form.add_error(field, forms.ValidationError(one.message, one.code))
        return False
    return True
