"""Who asks, as the services and the ledger write it down."""

from __future__ import annotations

from django.contrib.auth.models import User
from rest_framework.request import Request


def user_of(request: Request) -> User:
    """The user of a request that the policy has let pass."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101 - not an AnonymousUser
    return user


def actor_of(request: Request) -> str:
    """`user:<name>`."""
    return f"user:{user_of(request).get_username()}"
