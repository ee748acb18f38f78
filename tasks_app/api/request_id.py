"""The id of a request: the caller's own, if it is sane, or a new one."""

from __future__ import annotations

import re
import uuid

from django.http import HttpRequest

HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_KEY = "gnomon.request_id"


def request_id(request: HttpRequest) -> str:
    """The same id each time it is asked for; answers, problems and logs carry it."""
    if _KEY not in request.META:
        given = request.headers.get(HEADER, "")
        request.META[_KEY] = given if _SANE.fullmatch(given) else uuid.uuid4().hex
    return str(request.META[_KEY])
