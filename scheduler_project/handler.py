"""How the web service serves a request: in one piece, on one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import IO, Any

from asgiref.sync import sync_to_async
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.signals import request_started
from django.db import close_old_connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

THREADS = 200
"""Requests that one process works on at a time, long polls (64 at the most) among them;
more wait for their turn. A thread starts when none is idle, and stays."""

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Handler(ASGIHandler):
    """Django's, for middleware and views that are plain functions.

    Django's own starts a thread for each request, and goes there and back for each
    middleware and each signal: more than half of the CPU time of a trigger. This one
    goes there once, and a stream's steps alone have a thread of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(THREADS, "request")

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - Django's
        super().load_middleware(is_async=False)

    async def handle(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        response = await asyncio.get_running_loop().run_in_executor(
            self._threads, copy_context().run, self._answer, scope, body
        )
        if response.streaming:
            await self._stream(response, receive, send)
        else:
            await self.send_response(response, send)

    def _answer(self, scope: Any, body: IO[bytes]) -> Any:
        """The answer to a request, which holds no connection to the database."""
        set_script_prefix(get_script_prefix(scope))
        request_started.send(sender=type(self), scope=scope)
        request, refusal = self.create_request(scope, body)
        response: Any = self.get_response(request) if request else refusal
        response._handler_class = type(self)
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        if response.streaming:
            close_old_connections()
        else:
            response.close()  # what is in memory can be sent all the same
        return response

    async def _stream(
        self, response: HttpResponseBase, receive: Receive, send: Send
    ) -> None:
        """Send until the end, or until the client has gone."""
        tasks = (
            asyncio.create_task(self.send_response(response, send)),
            asyncio.ensure_future(receive()),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            sent, _ = await asyncio.gather(*tasks, return_exceptions=True)
            await sync_to_async(response.close)()
        if isinstance(sent, Exception):
            raise sent
