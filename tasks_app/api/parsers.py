"""JSON as the API accepts it: strict, and bounded in every direction."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from tasks_app.api.exceptions import PayloadTooLarge

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
_MAX_DIGITS = len(str(MIN_INTEGER))


class StrictJSONParser(BaseParser):
    """JSON (RFC 8259) in UTF-8, without what a database or a client trips over:
    doubled keys, NaN, integers beyond 64 bits, NUL, lone surrogates, deep nesting."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        request: Request = (parser_context or {})["request"]
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise UnsupportedMediaType(
                encoding, "Content-Encoding is not supported: send plain JSON."
            )
        return parse_json(_read(stream, request))


def _read(stream: IO[bytes], request: Request) -> bytes:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdecimal() and int(length[:20]) > MAX_BYTES:
        raise PayloadTooLarge
    body = stream.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge
    return body


def parse_json(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ParseError: saying what is wrong, and where if that is known.
    """
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise ParseError(f"The body is not UTF-8 at byte {error.start}.") from error
    except json.JSONDecodeError as error:
        raise ParseError(
            f"The body is not JSON: {error.msg}, line {error.lineno} column"
            f" {error.colno}."
        ) from error
    except RecursionError as error:
        raise _too_deep() from error
    _check(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(double, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ParseError(f"The key {ascii(double)[:100]} stands twice in one object.")
    return value


def _integer(digits: str) -> int:
    # Length first: int() refuses more than 4,300 digits with another error.
    if len(digits) > _MAX_DIGITS or not MIN_INTEGER <= int(digits) <= MAX_INTEGER:
        raise ParseError("An integer is beyond 64 bits.")
    return int(digits)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ParseError("A number is too large.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ParseError(f"{name} is not JSON.")


def _too_deep() -> ParseError:
    return ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _check(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += any(isinstance(item, dict | list) for item in level)
        if depth > MAX_DEPTH:
            raise _too_deep()
        for item in level:
            if isinstance(item, str):
                _check_text(item)
        level = [inner for item in level for inner in _inside(item)]


def _inside(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        yield from item
        yield from item.values()
    elif isinstance(item, list):
        yield from item


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ParseError("A string contains the NUL character, which is not accepted.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ParseError(
                "A string contains a lone surrogate, which is not accepted."
            ) from error
