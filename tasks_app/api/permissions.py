"""The policy at the door of each view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tasks_app.policy import ACTIONS, may

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module


class MissingPermission(PermissionDenied):
    """The caller is known and may not do this; the answer names what is missing."""

    default_code = "missing_permission"

    def __init__(self, permission: str) -> None:
        super().__init__(f"This needs the permission {permission}.")
        self.members = {"permission": permission}


class PolicyPermission(BasePermission):
    """Asks the policy about the action that a view names for the request's method.

    Denies by default: a handler without an action, or with one that the policy does
    not know, answers 403 to everybody.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        method = (request.method or "").lower()
        if method == "options" or not hasattr(view, method):
            return True  # 405 follows
        actions: dict[str, str] = getattr(view, "actions", {})
        action = actions.get("get" if method == "head" else method, "")
        if may(request.user, action):
            return True
        if permission := ACTIONS.get(action):
            raise MissingPermission(permission)
        return False
