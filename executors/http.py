"""Calls a URL and judges the answer by its status and its body."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import httpcore2
import httpx2

from executors.base import Outcome, OutcomeStatus, RunContext
from executors.formats import add_format
from executors.matching import MatchTookTooLong, search
from executors.sockets import Backend
from executors.text import one_line, storable
from executors.turns import Turn, Turns

DEFAULT_BODY_BYTES = 65_536
MAX_BODY_BYTES = 1_048_576
MAX_REDIRECTS = 5
CONNECT_TIMEOUT_SECONDS = 10.0
FAILURES = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
    OSError,
    UnicodeError,
)
CALLS_PER_POOL = 50
"""httpcore2 walks all of a pool's connections for every call: 5,000 at a time through
one pool took 51 s of CPU, through pools of 50 calls 11 s."""
KEPT_POOLS = 4
KEPT_CONNECTIONS = 20
KEPT_SECONDS = 5.0
"""Idle connections of a pool, and how long they are kept."""
CONNECTING = 100
CONNECTING_SECONDS = 0.25
"""Calls that connect at a time, each for so long at the most: 5,000 at once kept one
loop busy for longer than their connect timeouts, and every second one failed."""
NETWORK = Backend()
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HOST_LENGTH = 255
"""Of a name that resolves (RFC 1035, 2.3.4)."""

KEPT_HEADERS = (
    "content-length", "content-type", "date", "etag", "last-modified", "location",
    "retry-after", "server", "x-request-id",
)  # fmt: skip
REFUSED_HEADERS = frozenset({
    "connection", "content-length", "host", "idempotency-key", "keep-alive",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "x-gnomon-attempt", "x-gnomon-run-id", "x-gnomon-scheduled-for",
})  # fmt: skip
TOKEN = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
RUN_HEADERS = {
    "Idempotency-Key": "GNOMON_RUN_ID",
    "X-Gnomon-Run-Id": "GNOMON_RUN_ID",
    "X-Gnomon-Attempt": "GNOMON_ATTEMPT",
    "X-Gnomon-Scheduled-For": "GNOMON_SCHEDULED_FOR",
}

SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "HTTP call",
    "description": "Calls a URL; the run succeeds if status and body are as expected.",
    "type": "object",
    "additionalProperties": False,
    "required": ["command"],
    "not": {"required": ["body", "json"]},
    "x-allowed": "given body or json, not both",
    "properties": {
        "command": {
            "title": "URL",
            "description": "http or https. Credentials go into a header.",
            "type": "string",
            "format": "http-url",
            "maxLength": 8192,
            "examples": ["https://reports.example.org/v1/rebuild"],
        },
        "method": {
            "title": "Method",
            "description": "The HTTP method.",
            "type": "string",
            "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
            "default": "GET",
            "examples": ["POST"],
        },
        "headers": {
            "title": "Headers",
            "description": "Sent besides Idempotency-Key and X-Gnomon-*, which identify"
            " the run to the target.",
            "type": "object",
            "maxProperties": 100,
            "propertyNames": {"maxLength": 200, "format": "header-name"},
            "additionalProperties": {
                "type": "string",
                "maxLength": 8192,
                "pattern": "^(?:[!-~](?:[\\t -~]*[!-~])?)?$",
                "x-allowed": "visible ASCII on one line, without blanks around it",
            },
            "examples": [{"Accept": "application/json"}],
        },
        "body": {
            "title": "Body",
            "description": "Text to send, as UTF-8. Set Content-Type in the headers.",
            "type": "string",
            "maxLength": MAX_BODY_BYTES,
            "examples": ["month=2026-01"],
        },
        "json": {
            "title": "JSON body",
            "description": "Any JSON value to send, as application/json.",
            "examples": [{"month": "2026-01"}],
        },
        "expected_status": {
            "title": "Expected status",
            "description": "Codes and ranges that mean success.",
            "type": "array",
            "minItems": 1,
            "maxItems": 50,
            "items": {
                "type": ["integer", "string"],
                "minimum": 100,
                "maximum": 599,
                "format": "status-range",
            },
            "default": ["200-299"],
            "examples": [[200, "300-399"]],
        },
        "body_match": {
            "title": "Body must match",
            "description": "A regular expression to be found in the answer's body, in"
            " the part that is kept.",
            "type": "string",
            "format": "regex",
            "minLength": 1,
            "maxLength": 1000,
            "examples": ['"status": *"ok"'],
        },
        "connect_timeout_seconds": {
            "title": "Connect timeout",
            "description": "Seconds to wait for the connection. The whole call is"
            " limited by the task's timeout.",
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 300,
            "default": CONNECT_TIMEOUT_SECONDS,
            "examples": [5],
        },
        "follow_redirects": {
            "title": "Follow redirects",
            "description": f"Up to {MAX_REDIRECTS}. Authorization is not sent on to"
            " another origin.",
            "type": "boolean",
            "default": False,
            "examples": [True],
        },
        "max_body_bytes": {
            "title": "Body kept",
            "description": "Bytes of the decompressed answer to read and keep.",
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_BODY_BYTES,
            "default": DEFAULT_BODY_BYTES,
            "examples": [DEFAULT_BODY_BYTES],
        },
    },
}


def _check_url(value: str) -> None:
    if any(c.isspace() or c == "\\" for c in value):
        raise ValueError("must be a URL without blanks and backslashes")
    try:
        url = httpx2.URL(value)
    except (httpx2.InvalidURL, ValueError) as error:
        raise ValueError(f"must be a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(
            "must be a URL that starts with http:// or https:// and a host"
        )
    if url.userinfo:
        raise ValueError(
            "must not contain a user or password, which lists and logs would show;"
            " send them in the header Authorization"
        )


def _check_header_name(value: str) -> None:
    if not value or not TOKEN.issuperset(value):
        raise ValueError("must be a header name such as X-Api-Version")
    if value.lower() in REFUSED_HEADERS:
        raise ValueError("is a header that the executor sets itself; leave it out")


def _check_status_range(value: str) -> None:
    first, _, last = value.partition("-")
    codes = (first, last or first)
    if not all(len(c) == 3 and c.isascii() and c.isdigit() for c in codes):
        raise ValueError('must be a status such as 204 or a range such as "200-299"')
    if not "100" <= codes[0] <= codes[1] <= "599":
        raise ValueError("must be a range that rises within 100-599")


add_format("http-url", _check_url)
add_format("header-name", _check_header_name)
add_format("status-range", _check_status_range)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the body as far as it is kept, and how long it took."""

    version: str
    status: int
    phrase: str
    headers: Mapping[str, str]
    body: str
    size_bytes: int
    is_truncated: bool
    duration_ms: int

    def summary(self) -> str:
        size = f"more than {self.size_bytes}" if self.is_truncated else self.size_bytes
        status = f"{self.status} {self.phrase}".strip()
        return f"{self.version} {status}, {size} bytes in {self.duration_ms} ms"

    def result(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "headers": dict(self.headers),
            "body": self.body,
            "body_truncated": self.is_truncated,
            "duration_ms": self.duration_ms,
        }


class HttpExecutor:
    """Calls `command`, a URL. Connections are kept and shared within an event loop."""

    name = "http"
    schema = SCHEMA

    def target(self, payload: Mapping[str, Any]) -> str:
        """The host and port of the URL, in lower case."""
        url = httpx2.URL(payload["command"])
        host = url.raw_host.decode()[:MAX_HOST_LENGTH].lower()
        shown = f"[{host}]" if ":" in host else host
        return f"{shown}:{url.port or DEFAULT_PORTS[url.scheme]}"

    async def run(self, context: RunContext) -> Outcome:
        """Make the call; cancellation closes its connection at once."""
        try:
            answer = await _call(context)
        except FAILURES as error:
            return _explain(error, context.payload)
        context.write("stdout", f"{answer.summary()}\n{answer.body}".encode())
        return await _judge(answer, context.payload)

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        pools = _pools.pop(asyncio.get_running_loop(), None)
        if pools is not None:
            await pools.aclose()


async def _call(context: RunContext) -> Answer:
    payload = context.payload
    limit = payload.get("max_body_bytes", DEFAULT_BODY_BYTES)
    started = time.monotonic()
    pools = _running_loop_pools()
    async with pools.connecting.take() as turn, pools.borrow() as pool:
        response = await _respond(pool, payload, _request(context, turn))
        try:
            body, is_truncated = await _read(response, limit)
        finally:
            await response.aclose()
    return Answer(
        version=response.http_version,
        status=response.status_code,
        phrase=one_line(response.reason_phrase),
        headers={
            name: storable(response.headers[name])
            for name in KEPT_HEADERS
            if name in response.headers
        },
        body=_decode(body, response.charset_encoding),
        size_bytes=len(body),
        is_truncated=is_truncated,
        duration_ms=round(1000 * (time.monotonic() - started)),
    )


def _request(context: RunContext, turn: Turn) -> httpx2.Request:
    payload = context.payload
    connect_seconds = payload.get("connect_timeout_seconds", CONNECT_TIMEOUT_SECONDS)
    return _builder().build_request(
        payload.get("method", "GET"),
        payload["command"],
        headers=_headers(context),
        content=_content(payload),
        timeout=httpx2.Timeout(None, connect=connect_seconds),
        extensions={"trace": turn.trace},
    )


async def _respond(
    pool: httpcore2.AsyncConnectionPool,
    payload: Mapping[str, Any],
    request: httpx2.Request,
) -> httpx2.Response:
    """The answer, or that of the last redirect if they are followed.

    By httpcore2, below httpx2's client: what that holds of a call that waits is as much
    as all else.
    """
    if not payload.get("follow_redirects", False):
        wire = _wire(request)
        del request  # not to be held while the call waits
        return await _exchange(pool, wire)
    response = await _exchange(pool, _wire(request))
    for _ in range(MAX_REDIRECTS):
        if not response.has_redirect_location:
            return response
        await response.aclose()
        request = _builder()._build_redirect_request(request, response)
        response = await _exchange(pool, _wire(request))
    if response.has_redirect_location:
        await response.aclose()
        raise httpx2.TooManyRedirects("Exceeded maximum allowed redirects.")
    return response


def _wire(request: httpx2.Request) -> httpcore2.Request:
    url = request.url
    return httpcore2.Request(
        request.method,
        httpcore2.URL(
            scheme=url.raw_scheme,
            host=url.raw_host,
            port=url.port,
            target=url.raw_path,
        ),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


async def _exchange(
    pool: httpcore2.AsyncConnectionPool, wire: httpcore2.Request
) -> httpx2.Response:
    answer = await pool.handle_async_request(wire)
    return httpx2.Response(
        answer.status,
        headers=answer.headers,
        stream=_Body(answer),
        extensions=answer.extensions,
    )


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


def _headers(context: RunContext) -> dict[str, str]:
    headers = {"User-Agent": "Gnomon"}
    if "json" in context.payload:
        headers["Content-Type"] = "application/json"
    given: Mapping[str, str] = context.payload.get("headers", {})
    names = {name.lower() for name in given}
    headers = {name: v for name, v in headers.items() if name.lower() not in names}
    headers |= given
    for header, variable in RUN_HEADERS.items():
        if variable in context.environment:
            headers[header] = context.environment[variable]
    return headers


def _content(payload: Mapping[str, Any]) -> bytes | None:
    if "json" in payload:
        return json.dumps(payload["json"], ensure_ascii=False).encode()
    return payload["body"].encode() if "body" in payload else None


async def _read(response: httpx2.Response, limit: int) -> tuple[bytes, bool]:
    """The first `limit` bytes after decompression, and whether there are more.

    Nothing is read beyond: a gzip bomb costs the limit and one decoder's chunk.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit:
            return bytes(body[:limit]), True
    return bytes(body), False


def _decode(body: bytes, charset: str | None) -> str:
    try:
        text = body.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):  # a charset that is unknown, or no text at all
        text = body.decode("utf-8", "replace")
    return storable(text)


async def _judge(answer: Answer, payload: Mapping[str, Any]) -> Outcome:
    reason, error = "", ""
    expected = payload.get("expected_status", ["200-299"])
    if not _is_expected(answer.status, expected):
        wanted = ", ".join(map(str, expected))
        reason, error = (
            "unexpected_status",
            f"status {answer.status}, expected {wanted}",
        )
    elif "body_match" in payload:
        reason, error = await _mismatch(payload["body_match"], answer)
    return Outcome(
        OutcomeStatus.FAILED if reason else OutcomeStatus.SUCCEEDED,
        result=answer.result(),
        error=one_line(error),
        reason=reason,
    )


async def _mismatch(pattern: str, answer: Answer) -> tuple[str, str]:
    try:
        if await search(pattern, answer.body):
            return "", ""
    except MatchTookTooLong as error:
        return "body_mismatch", f"body_match: {error}"
    part = f" in its first {answer.size_bytes} bytes" if answer.is_truncated else ""
    return "body_mismatch", f"the body does not match {pattern}{part}"


def _is_expected(status: int, expected: Sequence[int | str]) -> bool:
    for wanted in expected:
        first, _, last = str(wanted).partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False


def _explain(error: Exception, payload: Mapping[str, Any]) -> Outcome:
    """Name the cause of a call without an answer."""
    where = httpx2.URL(payload["command"]).host
    causes = [cause for cause in _chain(error) if str(cause)]
    detail = str(causes[-1]) if causes else type(error).__name__
    reason, words = _cause(error)
    return Outcome(
        OutcomeStatus.FAILED,
        reason=reason,
        error=one_line(f"{words.format(where=where)}: {detail}"),
    )


CAUSES: Sequence[tuple[type[BaseException], str, str]] = (
    # The first that occurs in the chain of causes names the failure.
    (httpcore2.ConnectTimeout, "timeout", "no connection to {where} in time"),
    (
        httpx2.TooManyRedirects,
        "too_many_redirects",
        f"{{where}} redirects more than {MAX_REDIRECTS} times",
    ),
    (httpcore2.UnsupportedProtocol, "redirect_refused", "{where} redirects to no URL"),
    (httpx2.InvalidURL, "redirect_refused", "{where} redirects to no URL"),
    (socket.gaierror, "dns_failed", "the name {where} cannot be resolved"),
    (UnicodeError, "dns_failed", "the name {where} cannot be resolved"),
    (ssl.SSLError, "tls_failed", "no secure connection to {where}"),
    (httpcore2.ConnectError, "connection_failed", "no connection to {where}"),
    (httpx2.DecodingError, "answer_invalid", "the answer cannot be decompressed"),
)


def _cause(error: Exception) -> tuple[str, str]:
    chain = _chain(error)
    for kind, reason, words in CAUSES:
        if any(isinstance(cause, kind) for cause in chain):
            return reason, words
    return "connection_failed", "the connection to {where} broke"


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        if isinstance(error, BaseExceptionGroup):
            # anyio groups the failures of all addresses of a name.
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__
    return chain


class _Pools:
    """The pools of one event loop, each with a share of the calls."""

    def __init__(self) -> None:
        self._calls: dict[httpcore2.AsyncConnectionPool, int] = {}
        self.connecting = Turns(CONNECTING, CONNECTING_SECONDS)

    def borrow(self) -> _Loan:
        return _Loan(self)

    def take(self) -> httpcore2.AsyncConnectionPool:
        pool = self._free_pool()
        self._calls[pool] += 1
        return pool

    async def give_back(self, pool: httpcore2.AsyncConnectionPool) -> None:
        self._calls[pool] -= 1
        # Idle connections end only when their pool is used again: after a peak they
        # would stay half-closed.
        if not self._calls[pool] and len(self._calls) > KEPT_POOLS:
            del self._calls[pool]
            await pool.aclose()

    def _free_pool(self) -> httpcore2.AsyncConnectionPool:
        for pool, calls in self._calls.items():
            if calls < CALLS_PER_POOL:
                return pool
        pool = _Pool()
        self._calls[pool] = 0
        return pool

    async def aclose(self) -> None:
        for pool in self._calls:
            await pool.aclose()


class _Pool(httpcore2.AsyncConnectionPool):
    """Connections on our network. The certificates are loaded with the first that needs
    them: 1 MB."""

    def __init__(self) -> None:
        super().__init__(
            max_connections=None,
            max_keepalive_connections=KEPT_CONNECTIONS,
            keepalive_expiry=KEPT_SECONDS,
        )

    def create_connection(
        self, origin: httpcore2.Origin
    ) -> httpcore2.AsyncConnectionInterface:
        return httpcore2.AsyncHTTPConnection(
            origin,
            ssl_context=_tls() if origin.scheme == b"https" else None,
            keepalive_expiry=KEPT_SECONDS,
            network_backend=NETWORK,
        )


class _Loan:
    """One call's share of a pool. Not a generator, which takes more of a call."""

    __slots__ = ("_pool", "_pools")

    def __init__(self, pools: _Pools) -> None:
        self._pools = pools

    async def __aenter__(self) -> httpcore2.AsyncConnectionPool:
        self._pool = self._pools.take()
        return self._pool

    async def __aexit__(self, *_: object) -> None:
        await self._pools.give_back(self._pool)


@cache
def _builder() -> httpx2.AsyncClient:
    """Builds requests, and those that redirects ask for. It sends none and sees no
    answer, so it keeps no cookies: one task's are not another's."""
    return httpx2.AsyncClient(trust_env=False, transport=httpx2.AsyncBaseTransport())


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pools] = WeakKeyDictionary()


def _running_loop_pools() -> _Pools:
    return _pools.setdefault(asyncio.get_running_loop(), _Pools())
