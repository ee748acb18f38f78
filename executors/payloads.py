"""Whether a payload fits its executor's schema, told field by field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from executors import registry
from executors.formats import FORMATS, Check
from executors.text import storable, unstorable_parts

TYPE_NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong field: its path inside the payload, a stable code, a sentence."""

    path: tuple[str, ...]
    code: str
    message: str

    @property
    def pointer(self) -> str:
        """The field as a JSON Pointer (RFC 6901) into the task."""
        parts = (part.replace("~", "~0").replace("/", "~1") for part in self.path)
        return "/".join(("/payload", *parts))


class PayloadInvalid(ValueError):
    """The payload does not fit its executor."""

    code = "payload_invalid"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.pointer}: {p.message}" for p in self.problems))


def validate_payload(name: str, payload: Any) -> None:
    """Check a payload against the schema of the executor of that name.

    Raises PayloadInvalid with every problem found, or registry.UnknownExecutor.
    """
    schema = registry.get(name).schema
    # The schema's keywords may recurse or search: only storable values reach them.
    problems = [Problem(*fault) for fault in unstorable_parts(payload)]
    if not problems:
        problems = list(schema_problems(schema, payload))
    if problems:
        raise PayloadInvalid(problems)


def schema_problems(schema: Mapping[str, Any], value: Any) -> Iterator[Problem]:
    """Yield what in `value` breaks `schema`, in the order of the fields' paths."""
    errors = _validator(_Hashed(schema)).iter_errors(value)
    for error in sorted(errors, key=lambda e: [str(part) for part in e.absolute_path]):
        yield from _problems(error)


class _Hashed:
    """A schema as a cache key: by identity, as schemas live as long as the process."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and other.schema is self.schema

    def __hash__(self) -> int:
        return id(self.schema)


def _pattern(
    validator: Any, pattern: str, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """`pattern` as JSON Schema means it: Python's `$` would let a line end pass."""
    del validator, schema
    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield ValidationError(f"does not match {pattern}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern.endswith("$") and not pattern.endswith(r"\$"):
        pattern = pattern[:-1] + r"\Z"
    return re.compile(pattern)


def _required(
    validator: Any, names: Sequence[str], instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """`required`, told at the missing field instead of at its parent."""
    del schema
    if validator.is_type(instance, "object"):
        for name in names:
            if name not in instance:
                yield ValidationError("is required", path=(name,))


PayloadValidator = extend(
    Draft202012Validator, {"pattern": _pattern, "required": _required}
)


@cache
def _validator(key: _Hashed) -> Any:
    """With the formats known by now: an executor adds its own when it is loaded."""
    checker = FormatChecker(formats=())
    for name, check in FORMATS.items():
        checker.checks(name, raises=ValueError)(partial(_conforms, check))
    return PayloadValidator(key.schema, format_checker=checker)


def _conforms(check: Check, value: object) -> bool:
    if isinstance(value, str):
        check(value)
    return True


def _problems(error: ValidationError) -> Iterator[Problem]:
    path = tuple(storable(str(part)) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        yield from _unknown_fields(error, path)
    elif error.parent is None and error.validator in {"anyOf", "oneOf"}:
        yield Problem(path, "invalid", _sentence(error, "must have another form"))
    else:
        # `propertyNames` reports the mapping; the wrong thing is the name in it.
        if "propertyNames" in error.absolute_schema_path:
            path = (*path, storable(str(error.instance)))
        code, describe = RULES.get(str(error.validator), ("invalid", _plain))
        yield Problem(path, code, _sentence(error, describe(error)))


def _unknown_fields(error: ValidationError, path: tuple[str, ...]) -> Iterator[Problem]:
    known = error.schema.get("properties", {})
    for name in error.instance:
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            message = f"is not a known field; allowed are: {allowed}"
            yield Problem((*path, name), "unknown_field", message)


def _sentence(error: ValidationError, default: str) -> str:
    """What the schema itself says is allowed (`x-allowed`), or else `default`."""
    if isinstance(error.cause, ValueError):
        return str(error.cause)
    allowed = error.schema.get("x-allowed")
    if allowed and error.validator in {"pattern", "oneOf", "anyOf", "not", "format"}:
        return f"must be {allowed}"
    return default


def _type(error: ValidationError) -> str:
    types = error.validator_value
    types = [types] if isinstance(types, str) else types
    return "must be " + " or ".join(TYPE_NAMES[name] for name in types)


def _choice(error: ValidationError) -> str:
    return "must be one of: " + ", ".join(map(str, error.validator_value))


def _plain(error: ValidationError) -> str:
    return str(error.message)


def _limit(words: str) -> Callable[[ValidationError], str]:
    return lambda error: words.format(error.validator_value)


RULES: dict[str, tuple[str, Callable[[ValidationError], str]]] = {
    "required": ("required", _plain),
    "type": ("invalid_type", _type),
    "enum": ("not_a_choice", _choice),
    "minimum": ("too_small", _limit("must be at least {}")),
    "exclusiveMinimum": ("too_small", _limit("must be more than {}")),
    "maximum": ("too_large", _limit("must be at most {}")),
    "exclusiveMaximum": ("too_large", _limit("must be less than {}")),
    "minLength": ("too_short", _limit("must have at least {} character(s)")),
    "maxLength": ("too_long", _limit("must have at most {} characters")),
    "minItems": ("too_short", _limit("must have at least {} item(s)")),
    "maxItems": ("too_long", _limit("must have at most {} items")),
    "maxProperties": ("too_long", _limit("must have at most {} entries")),
    "pattern": ("invalid_format", lambda e: f"must match {e.validator_value}"),
    "format": ("invalid_format", _plain),
}
