"""Parameters of a run: names and values that can reach a job as environment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_PARAMS = 100
MAX_VALUE_BYTES = 128 * 1024 - 256
"""Linux takes at most 128 KiB for one `NAME=value` (MAX_ARG_STRLEN, execve(2))."""
PARENT_RESULTS = "parent_results"
"""The parameter with which a workflow tells a run what its parents gave."""
MAX_RESULT_BYTES = 64 * 1024
"""Of one parent's result, as JSON."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)


class ParamInvalid(ValueError):
    """A parameter cannot be passed on."""

    def __init__(self, name: str, code: str, message: str) -> None:
        self.name, self.code, self.message = name, code, message
        super().__init__(f"{name}: {message}")


def param_problems(params: Mapping[str, Any]) -> list[ParamInvalid]:
    """What is wrong with `params`, each problem with the parameter's name."""
    if len(params) > MAX_PARAMS:
        message = f"at most {MAX_PARAMS} parameters, here are {len(params)}"
        return [ParamInvalid("", "too_many", message)]
    return [
        problem
        for name, value in params.items()
        if (problem := _problem(name, value)) is not None
    ]


def _problem(name: str, value: Any) -> ParamInvalid | None:
    if not _NAME.fullmatch(name):
        return ParamInvalid(
            name,
            "bad_name",
            "a name is letters, digits and _, and begins with no digit",
        )
    if name.lower() == PARENT_RESULTS:
        return ParamInvalid(
            name, "reserved", "workflows set it, to the results of a run's parents"
        )
    text = param_text(value)
    if "\0" in text:
        return ParamInvalid(
            name, "null_character", "NUL characters cannot be passed on"
        )
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return ParamInvalid(name, "bad_unicode", "lone surrogates cannot be passed on")
    if size > MAX_VALUE_BYTES:
        message = f"at most {MAX_VALUE_BYTES} bytes, here are {size}"
        return ParamInvalid(name, "too_long", message)
    return None


def param_text(value: Any) -> str:
    """A parameter as the job sees it: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def param_environment(params: Mapping[str, Any]) -> dict[str, str]:
    """`PARAM_<NAME>` variables, the name in capitals."""
    return {
        f"PARAM_{name.upper()}": param_text(value) for name, value in params.items()
    }


def parent_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results of a run's parents, by their names, cut to what a job can be given.

    A result of over MAX_RESULT_BYTES is replaced by `{"omitted_bytes": <its size>}`;
    so are the largest ones until the whole fits a parameter. Should that not be
    enough (hundreds of parents), one such object stands for all.
    """
    kept = dict(results)
    sizes = {name: _json_bytes(result) for name, result in results.items()}
    # Braces and commas of the whole take what the braces of its members take.
    total = sum(_json_bytes({name: result}) for name, result in results.items())
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if sizes[name] <= MAX_RESULT_BYTES and total <= MAX_VALUE_BYTES:
            return kept
        kept[name] = {"omitted_bytes": sizes[name]}
        total += _json_bytes(kept[name]) - sizes[name]
    if total <= MAX_VALUE_BYTES:
        return kept
    return {"omitted_bytes": sum(sizes.values())}


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
