"""What a body may be, byte by byte."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.exceptions import ParseError
from rest_framework.test import APIClient

from tasks_app.api.parsers import MAX_BYTES, parse_json
from tasks_app.models import Task

URL = "/api/v1/tasks"


def send(
    api: APIClient,
    method: str,
    path: str,
    body: bytes,
    content_type: str = "application/json",
    **more: Any,
) -> Any:
    # The annotation of generic() forgets that a body is bytes.
    return api.generic(method, path, body, content_type, **more)  # type: ignore[arg-type]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


GOOD = [
    (b"{}", {}),
    (b' {"a": [1, 2.5, "x", null, true]} ', {"a": [1, 2.5, "x", None, True]}),
    (b"9223372036854775807", 2**63 - 1),
    (b"-9223372036854775808", -(2**63)),
    ('"任务 😀"'.encode(), "任务 😀"),
    (b'"\\ud83d\\ude00"', "😀"),
    (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
    (b"1e-400", 0.0),
]


@pytest.mark.parametrize(("body", "value"), GOOD)
def test_it_reads(body: bytes, value: Any) -> None:
    assert parse_json(body) == value


def test_it_reads_32_levels() -> None:
    parse_json(nested(32))


BAD = [
    b"",
    b"{",
    b"{} x",
    b"\xef\xbb\xbf{}",
    b"\xff",
    b'"\xed\xa0\x80"',
    '"x"'.encode("utf-16"),
    b'"\\u0000"',
    b'{"\\u0000": 1}',
    b'"\\ud800"',
    b'{"a": {"\\udfff": []}}',
    b'"\x01"',
    b'{"a": 1, "a": 1}',
    b'[{"b": {"a": 1, "a": 2}}]',
    b'{"\\u0061": 1, "a": 2}',
    b"NaN",
    b"[Infinity]",
    b'{"a": -Infinity}',
    b"1e400",
    b"-1e400",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"1" * 5000,
    nested(33),
    nested(100_000),
    b'{"a":' * 33 + b"1" + b"}" * 33,
]


@pytest.mark.parametrize("body", BAD, ids=lambda body: repr(body[:20]))
def test_it_refuses(body: bytes) -> None:
    with pytest.raises(ParseError):
        parse_json(body)


@pytest.mark.parametrize("body", BAD, ids=lambda body: repr(body[:20]))
@pytest.mark.django_db
def test_a_request_with_it_is_malformed(admin: APIClient, body: bytes) -> None:
    if not body:
        body = b" "
    for wrapped in (body, b'{"name": "x", "payload": {"x": ' + body + b"}}"):
        response = send(admin, "POST", URL, wrapped, "application/json")
        assert response.status_code == 400
        assert response["Content-Type"] == "application/problem+json"
        assert response.json()["code"] == "parse_error"
    assert Task.objects.count() == 0


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"5", b"true"])
@pytest.mark.django_db
def test_a_body_is_an_object(admin: APIClient, body: bytes) -> None:
    for method in ("POST", "PUT", "PATCH"):
        path = URL if method == "POST" else f"{URL}/{_task().pk}"
        response = send(admin, method, path, body, "application/json")
        assert response.status_code == 400
        assert response.json()["errors"][0]["pointer"] == ""


def _task() -> Task:
    from tests.factories import make_task  # noqa: PLC0415 - only where there is a database

    return make_task()


@pytest.mark.parametrize(
    "content_type",
    [
        "text/xml",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "",
        "x" * 1000,
    ],
)
@pytest.mark.django_db
def test_only_json_is_read(admin: APIClient, content_type: str) -> None:
    response = send(admin, "POST", URL, b'{"name": "x"}', content_type)
    assert response.status_code == 415
    assert response.json()["code"] == "unsupported_media_type"


@pytest.mark.django_db
def test_a_compressed_body_is_not_read(admin: APIClient) -> None:
    response = send(
        admin,
        "POST",
        URL,
        b"x",
        "application/json",
        headers={"Content-Encoding": "gzip"},
    )
    assert response.status_code == 415


@pytest.mark.django_db
def test_a_body_has_a_size(admin: APIClient) -> None:
    body = b'"' + b"x" * MAX_BYTES
    response = send(admin, "POST", URL, body, "application/json")
    assert response.status_code == 413
    assert response.json()["code"] == "payload_too_large"
    response = send(admin, "POST", URL, body[:MAX_BYTES], "application/json")
    assert response.status_code == 400


@pytest.mark.django_db
def test_a_large_form_under_a_session_is_refused(client: Any, admin: APIClient) -> None:
    from django.contrib.auth.models import User  # noqa: PLC0415

    strict = APIClient(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="admin"))
    response = send(
        strict,
        "POST",
        URL,
        b"a=" + b"x" * 2 * MAX_BYTES,
        "application/x-www-form-urlencoded",
    )
    assert response.status_code in {403, 413}
