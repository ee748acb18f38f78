"""The web service's way with a request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from scheduler_project.handler import Handler

seen: list[tuple[str, int]] = []


def saw(what: str, **_: Any) -> None:
    seen.append((what, threading.get_ident()))


def on_start(**_: Any) -> None:
    saw("started")


def on_finish(**_: Any) -> None:
    saw("finished")


def noting(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        saw("middleware")
        return get_response(request)

    return middleware


def plain(request: HttpRequest) -> HttpResponse:
    saw("view")
    return HttpResponse(request.body)


def broken(_request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


def stream(_request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(endless())


async def endless() -> AsyncIterator[str]:
    try:
        while True:
            yield "more"
            await asyncio.sleep(0.001)
    finally:
        saw("stream closed")


def asking(_request: HttpRequest) -> StreamingHttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    asked = connections["default"]  # this thread's

    async def is_kept() -> AsyncIterator[str]:
        yield str(asked.connection is not None)

    return StreamingHttpResponse(is_kept())


urlpatterns = [
    path("plain", plain),
    path("broken", broken),
    path("stream", stream),
    path("asking", asking),
]


@pytest.fixture
def handler(settings: Any) -> Handler:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [f"{__name__}.noting", f"{__name__}.noting"]
    seen.clear()
    return Handler()


class Client:
    """One that leaves after so many chunks of a stream."""

    def __init__(self, handler: Handler, chunks: int = 0) -> None:
        self._handler = handler
        self._chunks = chunks
        self._requests = [{"type": "http.request", "body": b"hello"}]
        self._gone = asyncio.Event()
        self.status = 0
        self.body = b""

    async def get(self, path: str) -> Client:
        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        await asyncio.wait_for(self._handler(scope, self._receive, self._send), 20)
        return self

    async def _receive(self) -> dict[str, Any]:
        if self._requests:
            return self._requests.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")
        self._chunks -= bool(message.get("body"))
        if self._chunks == 0:
            self._gone.set()


def test_all_of_a_request_happens_on_one_thread_that_serves_the_next(
    handler: Handler,
) -> None:
    async def twice() -> list[Client]:
        return [await Client(handler).get("/plain") for _ in range(2)]

    request_started.connect(on_start)
    request_finished.connect(on_finish)
    try:
        answers = asyncio.run(twice())
    finally:
        request_started.disconnect(on_start)
        request_finished.disconnect(on_finish)
    assert [(each.status, each.body) for each in answers] == [(200, b"hello")] * 2
    once = ["started", "middleware", "middleware", "view", "finished"]
    assert [what for what, _thread in seen] == once * 2
    (thread,) = {thread for _what, thread in seen}
    assert thread != threading.get_ident()


def test_requests_are_served_side_by_side(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_are_here = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(
        HttpRequest, "body", property(lambda _self: str(both_are_here.wait()).encode())
    )

    async def together() -> list[Client]:
        return list(
            await asyncio.gather(*(Client(handler).get("/plain") for _ in range(2)))
        )

    assert {each.body for each in asyncio.run(together())} == {b"0", b"1"}


def test_a_view_that_fails_is_answered(handler: Handler) -> None:
    assert asyncio.run(Client(handler).get("/broken")).status == 500


def test_a_stream_ends_when_its_client_leaves(handler: Handler) -> None:
    client = asyncio.run(Client(handler, chunks=3).get("/stream"))
    assert client.body.startswith(b"more" * 3)
    assert seen[-1][0] == "stream closed"


@pytest.mark.django_db(transaction=True)
def test_a_stream_holds_no_connection_of_its_view(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    assert asyncio.run(Client(handler, chunks=-1).get("/asking")).body == b"False"
