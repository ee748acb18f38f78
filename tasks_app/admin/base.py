"""What the screens share: their permissions, their frame, their buttons.

The screens stand on templates of their own. Nothing here or in them depends on the
theme but the frame in `gnomon/base.html`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from tasks_app.errors import Conflict, DomainError, HistoryAway
from tasks_app.policy import may

View = Callable[..., HttpResponse]


class Screen(admin.ModelAdmin):  # type: ignore[type-arg] # one for any model
    """A model's pages. Reading needs `read`; nothing else is permitted by default.

    A subclass lists its own pages. Those of ModelAdmin, which write models past the
    services, have no address.
    """

    read: str
    """The action of the policy's table that opens the pages."""
    actions = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del obj
        return may(request.user, self.read)

    def has_add_permission(self, request: HttpRequest) -> bool:
        del request
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del request, obj
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del request, obj
        return False

    def pages(self) -> list[URLPattern]:
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        return self.pages()

    def address(self, route: str, view: View, name: str, *methods: str) -> URLPattern:
        """A page of this model, `name` being its own part of the address's name."""
        checked = require_http_methods(methods)(self._tell(view))
        guarded = self.admin_site.admin_view(checked)
        name = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        return path(route, update_wrapper(guarded, view), name=name)

    def _tell(self, view: View) -> View:
        """Someone else was faster, say by deleting the task: tell it, on the list. Or
        what the page is about cannot be read now: tell it there, with a 503."""

        def telling(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                return view(request, *args, **kwargs)
            except Conflict as error:
                model = f"{self.opts.app_label}_{self.opts.model_name}"
                messages.error(request, str(error))
                return HttpResponseRedirect(reverse(f"admin:{model}_changelist"))
            except HistoryAway:
                context = {"title": _("Not now")}
                return self.page(request, "gnomon/history_away.html", context, 503)

        return telling

    def page(
        self,
        request: HttpRequest,
        template: str,
        context: dict[str, Any],
        status: int = 200,
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        frame = self.admin_site.each_context(request)
        allowed = {"may": Allowed(request)}
        return TemplateResponse(
            request, template, {**frame, **allowed, **context}, status=status
        )


class Allowed:
    """The policy for templates: `{% if may.run_trigger %}`."""

    def __init__(self, request: HttpRequest) -> None:
        self._user = request.user

    def __getattr__(self, name: str) -> bool:
        noun, _dash, verb = name.partition("_")
        return may(self._user, f"{noun}.{verb}")


def demand(request: HttpRequest, action: str) -> None:
    """Refuse a user who may not do an action.

    Raises:
        PermissionDenied: shown as 403.
    """
    if not may(request.user, action):
        raise PermissionDenied


def actor(request: HttpRequest) -> str:
    """Who asks, as runs and events record it."""
    return f"user:{request.user.get_username()}"


def done(request: HttpRequest, default: str, message: str) -> HttpResponseRedirect:
    """Say what was done, and go back to the page that the form came from."""
    messages.success(request, message)
    return HttpResponseRedirect(next_address(request, default))


def refused(request: HttpRequest, error: DomainError, to: str) -> HttpResponseRedirect:
    """Say why it was not done."""
    messages.error(request, str(error))
    return HttpResponseRedirect(next_address(request, to))


def next_address(request: HttpRequest, default: str) -> str:
    """The form's `next`, if it is a page of this site."""
    given = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(
        given, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return given if given and is_ours else default
