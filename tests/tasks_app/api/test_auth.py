"""Tokens, sessions, and who the caller is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from tests.tasks_app.api.conftest import make_user

pytestmark = pytest.mark.django_db

ME = "/api/v1/me"


@pytest.fixture
def user() -> User:
    return make_user("ann", "view_task")


def sign_in(api: APIClient, **values: Any) -> Any:
    body = {"username": "ann", "password": "a-long-password", **values}
    return api.post("/api/v1/auth/token", body)


def with_token(api: APIClient, token: str) -> Any:
    return api.get(ME, headers={"Authorization": f"Bearer {token}"})


def test_a_password_gives_tokens_and_a_refresh_a_new_one(
    anonymous: APIClient, user: User
) -> None:
    response = sign_in(anonymous)
    assert response.status_code == 200
    tokens = response.json()
    assert set(tokens) == {"access", "refresh"}
    me = with_token(anonymous, tokens["access"]).json()
    assert me["username"] == "ann"
    assert me["actions"] == ["task.read"]
    response = anonymous.post("/api/v1/auth/refresh/", {"refresh": tokens["refresh"]})
    assert response.status_code == 200
    assert set(response.json()) == {"access"}
    assert with_token(anonymous, response.json()["access"]).status_code == 200


@pytest.mark.parametrize(
    "values", [{"password": "wrong"}, {"username": "bob"}, {"username": "Ann"}]
)
def test_a_wrong_password_is_refused(
    anonymous: APIClient, user: User, values: dict[str, str]
) -> None:
    response = sign_in(anonymous, **values)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response.json()["code"] == "no_active_account"


@pytest.mark.parametrize(
    ("values", "pointer"),
    [
        ({"password": None}, "/password"),
        ({"username": ["ann"]}, "/username"),
        ({"username": "x" * 151}, "/username"),
        ({"password": "x" * 1025}, "/password"),
        ({"otp": "123"}, "/otp"),
    ],
)
def test_a_strange_sign_in_is_malformed(
    anonymous: APIClient, user: User, values: Any, pointer: str
) -> None:
    response = sign_in(anonymous, **values)
    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


def test_a_disabled_user_is_out_at_the_next_request(
    anonymous: APIClient, user: User
) -> None:
    tokens = sign_in(anonymous).json()
    User.objects.update(is_active=False)
    assert with_token(anonymous, tokens["access"]).status_code == 401
    response = anonymous.post("/api/v1/auth/refresh", {"refresh": tokens["refresh"]})
    assert response.status_code == 401
    assert sign_in(anonymous).status_code == 401


def test_a_deleted_user_is_out(anonymous: APIClient, user: User) -> None:
    tokens = sign_in(anonymous).json()
    User.objects.all().delete()
    assert with_token(anonymous, tokens["access"]).status_code == 401
    response = anonymous.post("/api/v1/auth/refresh", {"refresh": tokens["refresh"]})
    assert response.status_code == 401
    assert response.json()["code"] == "no_active_account"


def test_a_permission_taken_away_is_gone_at_the_next_request(
    anonymous: APIClient, user: User
) -> None:
    headers = {"Authorization": f"Bearer {AccessToken.for_user(user)}"}
    assert anonymous.get("/api/v1/tasks", headers=headers).status_code == 200
    user.user_permissions.clear()
    assert anonymous.get("/api/v1/tasks", headers=headers).status_code == 403


def forged(user: User, key: Any, algorithm: str = "HS256", **claims: Any) -> str:
    payload = {**AccessToken.for_user(user).payload, "iss": "gnomon", **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm)


def test_forged_tokens_are_refused(anonymous: APIClient, user: User) -> None:
    key = settings.SIMPLE_JWT["SIGNING_KEY"]
    expired = AccessToken.for_user(user)
    expired.set_exp(lifetime=-timedelta(seconds=1))
    assert with_token(anonymous, forged(user, key)).status_code == 200
    for token in (
        "",
        "x",
        "a.b.c",
        "x y",
        "\u00e9",
        str(expired),
        str(RefreshToken.for_user(user)),
        forged(user, None, "none"),
        forged(user, settings.SECRET_KEY),
        forged(user, key, exp=None),
        forged(user, key, iss="other"),
        forged(user, key, user_id=None),
    ):
        response = with_token(anonymous, token)
        assert response.status_code == 401, token
        assert response["WWW-Authenticate"].startswith("Bearer")
        assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("token", ["", "x", "a.b.c", None, 5])
def test_a_forged_refresh_is_refused(anonymous: APIClient, token: Any) -> None:
    response = anonymous.post("/api/v1/auth/refresh", {"refresh": token})
    assert response.status_code in {400, 401}


def test_an_access_token_refreshes_nothing(anonymous: APIClient, user: User) -> None:
    token = str(AccessToken.for_user(user))
    response = anonymous.post("/api/v1/auth/refresh", {"refresh": token})
    assert response.status_code == 401
    assert response.json()["code"] == "token_not_valid"


def test_a_session_reads_and_needs_a_csrf_token_to_write(user: User) -> None:
    api = APIClient(enforce_csrf_checks=True)
    api.login(username="ann", password="a-long-password")
    assert api.get(ME).status_code == 200
    body = {"cron": "0 3 * * *"}
    response = api.post("/api/v1/schedules/preview", body, format="json")
    assert response.status_code == 403
    assert response["Content-Type"] == "application/problem+json"
    api.get("/admin/login/?next=/x")
    token = "a" * 32
    api.cookies["csrftoken"] = token
    response = api.post(
        "/api/v1/schedules/preview",
        body,
        format="json",
        headers={"X-CSRFToken": token},
    )
    assert response.status_code == 200


def test_no_other_origin_is_let_in(anonymous: APIClient, user: User) -> None:
    for origin in ("https://evil.example", "null"):
        response = anonymous.get(ME, headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in response
