from __future__ import annotations

from typing import Any

import pytest

from executors.payloads import (
    PayloadInvalid,
    Problem,
    schema_problems,
    validate_payload,
)
from executors.registry import UnknownExecutor


def problems(payload: Any, name: str = "shell") -> list[tuple[str, str]]:
    with pytest.raises(PayloadInvalid) as caught:
        validate_payload(name, payload)
    return [(problem.pointer, problem.code) for problem in caught.value.problems]


def test_every_problem_is_told_at_once() -> None:
    payload = {"command": 1, "umask": "9", "nope": 1, "env": {"PATH": 1}}
    assert problems(payload) == [
        ("/payload/nope", "unknown_field"),
        ("/payload/command", "invalid_type"),
        ("/payload/env/PATH", "invalid_format"),
        ("/payload/env/PATH", "invalid_type"),
        ("/payload/umask", "invalid_format"),
    ]


@pytest.mark.parametrize("payload", [None, [], "x", 1])
def test_a_payload_is_an_object(payload: Any) -> None:
    assert ("/payload", "invalid_type") in problems(payload)


def test_a_missing_field_is_named() -> None:
    assert problems({}, "python") == [("/payload/command", "required")]


@pytest.mark.parametrize(
    ("payload", "pointer", "code"),
    [
        ({"command": "a\x00"}, "/payload/command", "null_character"),
        ({"argv": ["x", "\x00"]}, "/payload/argv/1", "null_character"),
        ({"env": {"A": "\udc80"}}, "/payload/env/A", "surrogate"),
        ({"env": {"\x00": "x"}}, "/payload/env", "null_character"),
        ({"command": "\ud83d"}, "/payload/command", "surrogate"),
    ],
)
def test_text_that_cannot_be_stored_is_refused(
    payload: dict[str, Any], pointer: str, code: str
) -> None:
    assert problems(payload) == [(pointer, code)]


def test_characters_beyond_the_basic_plane_are_accepted() -> None:
    validate_payload("shell", {"command": "echo 😀"})


def test_nesting_without_end_is_refused_without_recursion() -> None:
    value: Any = "x"
    for _ in range(100_000):
        value = [value]
    payload = {"command": "x", "kwargs": {"value": value}}
    ((pointer, code),) = problems(payload, "python")
    assert code == "too_deep"
    assert pointer.startswith("/payload/kwargs/value/0")


def test_an_unknown_executor_is_its_own_error() -> None:
    with pytest.raises(UnknownExecutor):
        validate_payload("nope", {})


def test_a_pointer_escapes_as_in_rfc_6901() -> None:
    assert Problem(("env", "a/b~c"), "x", "y").pointer == "/payload/env/a~1b~0c"


def test_a_plug_ins_schema_gets_the_same_sentences() -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "maximum": 3},
            "s": {"type": "string", "pattern": "^a$"},
            "o": {"type": "object", "required": ["it's"], "properties": {"it's": {}}},
            "c": {"const": 1},
        },
    }
    value = {"n": 4, "s": "a\n", "o": {}, "c": 2}
    told = {p.pointer: p.message for p in schema_problems(schema, value)}
    assert told == {
        "/payload/c": "1 was expected",
        "/payload/n": "must be at most 3",
        "/payload/o/it's": "is required",
        "/payload/s": "must match ^a$",
    }
