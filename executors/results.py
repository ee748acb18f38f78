"""The value that a job hands back: JSON in the file that $GNOMON_OUTPUT names."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any

from executors.text import unstorable_parts

MAX_RESULT_BYTES = 65_536


class ResultInvalid(Exception):
    """The file holds no value that can be kept."""


def create_result(path: str, owner: tuple[int, int] | None) -> None:
    """Make the empty file for a job that could not make it: another user, a sandbox."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        if owner is not None:
            os.fchown(file, *owner)
    finally:
        os.close(file)


def take_result(path: str) -> Any:
    """The value in the file, which is removed; None if there is none.

    Raises ResultInvalid. The file is the job's: it may be anything, a link to a file
    that only the worker may read included.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        _remove(path)
        raise ResultInvalid(f"cannot be read: {error.strerror}") from error
    try:
        content = _content(file)
    finally:
        os.close(file)
        _remove(path)
    return _value(content) if content.strip() else None


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _content(file: int) -> bytes:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise ResultInvalid("is not a plain file")
    content = os.read(file, MAX_RESULT_BYTES + 1)
    if len(content) > MAX_RESULT_BYTES:
        raise ResultInvalid(f"is larger than {MAX_RESULT_BYTES} bytes")
    return content


def _value(content: bytes) -> Any:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ResultInvalid(f"is not JSON: {error}") from error
    for path, _, message in unstorable_parts(value):
        raise ResultInvalid(f"{'.'.join(path)} {message}".strip())
    return value
