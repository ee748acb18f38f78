"""The text formats that payload schemas may name with `format`.

An executor adds its own: a function that raises ValueError with what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from jsonschema import FormatChecker

FORMATS = FormatChecker(formats=())


def add_format(name: str, check: Callable[[str], None]) -> None:
    """Let schemas say `"format": name`; `check` raises ValueError with the reason."""

    def conforms(value: object) -> bool:
        if isinstance(value, str):
            check(value)
        return True

    FORMATS.checks(name, raises=ValueError)(conforms)


def _regex(value: str) -> None:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"must be a regular expression of Python's re module: {error}"
        ) from error


add_format("regex", _regex)
