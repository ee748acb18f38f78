"""The text formats that payload schemas may name with `format`.

An executor adds its own: a function that raises ValueError with what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Check = Callable[[str], None]
FORMATS: dict[str, Check] = {}


def add_format(name: str, check: Check) -> None:
    """Let schemas say `"format": name`; `check` raises ValueError with the reason."""
    FORMATS[name] = check


def _regex(value: str) -> None:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"must be a regular expression of Python's re module: {error}"
        ) from error


add_format("regex", _regex)
