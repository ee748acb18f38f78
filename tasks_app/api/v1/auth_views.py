"""Tokens, and who the caller is."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.serializers import (
    TokenObtainPairSerializer,
    TokenRefreshSerializer,
)

from tasks_app.api import docs
from tasks_app.api.actors import user_of
from tasks_app.api.fields import StrictSerializer, Text
from tasks_app.api.views import ApiView
from tasks_app.policy import ACTIONS, SIGNED_IN, may


class Credentials(StrictSerializer):
    username = Text(max_length=150)
    password = Text(
        max_length=1024, trim_whitespace=False, style={"input_type": "password"}
    )


class TokenPair(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="Valid for 15 minutes.")
    refresh = serializers.CharField(help_text="Valid for 7 days.")


class RefreshIn(StrictSerializer):
    refresh = Text(max_length=4096)


class Access(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="Valid for 15 minutes.")


class MeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField()
    is_staff = serializers.BooleanField()
    is_superuser = serializers.BooleanField()
    actions = serializers.ListField(
        child=serializers.CharField(), help_text="What the policy lets the user do."
    )


class PublicView(ApiView):
    """Answers without a user; named in `policy.PUBLIC_ROUTES`."""

    permission_classes = ()
    authentication_classes = ()

    def get_authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'  # hence 401 and not 403


class TokenCreate(PublicView):
    @extend_schema(
        operation_id="auth_token",
        summary="Sign in for tokens",
        auth=[],
        request=Credentials,
        responses={
            200: TokenPair,
            **docs.problems(401, 413, 415, public=True),
        },
    )
    def post(self, request: Request) -> Response:
        given = Credentials(data=request.data)
        given.is_valid(raise_exception=True)
        serializer = TokenObtainPairSerializer(context={"request": request})
        return Response(serializer.validate(given.validated_data))


class TokenRefresh(PublicView):
    @extend_schema(
        operation_id="auth_refresh",
        summary="Get a new access token",
        auth=[],
        request=RefreshIn,
        responses={200: Access, **docs.problems(401, 413, 415, public=True)},
    )
    def post(self, request: Request) -> Response:
        given = RefreshIn(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            tokens = TokenRefreshSerializer().validate(given.validated_data)
        except TokenError as error:
            raise InvalidToken(str(error)) from error
        except get_user_model().DoesNotExist as error:
            raise AuthenticationFailed(
                "The token's user does not exist any more.", "no_active_account"
            ) from error
        return Response({"access": tokens["access"]})


class Me(ApiView):
    actions = {"get": "self.read"}

    @extend_schema(
        operation_id="me",
        summary="Who is signed in, and what they may do",
        responses={200: MeOut, **docs.problems()},
    )
    def get(self, request: Request) -> Response:
        user: Any = user_of(request)
        user.actions = [
            action
            for action, permission in ACTIONS.items()
            if permission != SIGNED_IN and may(user, action)
        ]
        return Response(MeOut(user).data)
