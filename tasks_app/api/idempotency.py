"""`Idempotency-Key` for every POST that makes something, in one place (C11)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from rest_framework.exceptions import ParseError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.services.idempotency import KeyedRequest, answer_once

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEPT_HEADERS = ("Location", "ETag")

_KEY = re.compile(r"[\x20-\x7e]{1,200}")
_MAX_PATH = 500  # of the column; longer paths lead nowhere

View = TypeVar("View")
P = ParamSpec("P")
Handler = Callable[Concatenate[View, Request, P], Response]


class BadIdempotencyKey(ParseError):
    default_code = "invalid_idempotency_key"
    default_detail = f"{KEY_HEADER} has 1 to 200 printable ASCII characters."


def idempotent(post: Handler[View, P]) -> Handler[View, P]:
    """Make a handler answer a repeated request as it answered the first.

    The answer is kept with the work, in its transaction; an error keeps nothing.
    """

    @wraps(post)
    def answer(
        view: View, request: Request, *args: P.args, **kwargs: P.kwargs
    ) -> Response:
        key = request.headers.get(KEY_HEADER)
        if key is None:
            return post(view, request, *args, **kwargs)
        kept, is_replayed = answer_once(
            _keyed(request, key), lambda: _keep(post(view, request, *args, **kwargs))
        )
        response = Response(
            json.loads(kept["body"]), kept["status"], headers=kept["headers"]
        )
        if is_replayed:
            response[REPLAYED_HEADER] = "true"
        return response

    return answer  # type: ignore[return-value]  # wraps() forgets the names


def _keyed(request: Request, key: str) -> KeyedRequest:
    if not (_KEY.fullmatch(key) and key.strip()):
        raise BadIdempotencyKey
    path = request.path.rstrip("/")
    # The query is part of what is asked: ?project= names another task.
    asked = [path, sorted(request.query_params.items()), request.data]
    return KeyedRequest(
        principal=f"user:{request.user.pk}",
        path=path[:_MAX_PATH],
        key=key,
        body_hash=hashlib.sha256(
            json.dumps(asked, sort_keys=True).encode()
        ).hexdigest(),
    )


def _keep(response: Response) -> dict[str, Any]:
    """An answer as JSON; the body as text, for a database may reorder an object."""
    return {
        "status": response.status_code,
        "headers": {name: response[name] for name in KEPT_HEADERS if name in response},
        "body": JSONRenderer().render(response.data).decode(),
    }
