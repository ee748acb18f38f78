"""Runs a command of this machine: a line for /bin/sh, or a program with arguments."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pwd import struct_passwd
from typing import Any

from executors import containment, supervisor
from executors.base import Outcome, OutcomeStatus, RunContext, Stream, WriteOutput
from executors.isolation import (
    RunAsRefused,
    bwrap,
    prlimit,
    setpriv,
    tools_of,
    user_of,
)
from executors.processes import Command, JobStopped, StartFailed, run_process
from executors.results import ResultInvalid, create_result, take_result
from executors.text import one_line

INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR",
)  # fmt: skip
"""All that a job gets of the worker's environment, which holds secrets."""

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
ERROR_TAIL_BYTES = 2000

SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Shell command",
    "description": "Runs a command on the worker. When it ends, so does all that it"
    " started. A JSON value of up to 64 KiB that it writes to the file $GNOMON_OUTPUT"
    " becomes the run's result.",
    "type": "object",
    "additionalProperties": False,
    "oneOf": [{"required": ["command"]}, {"required": ["argv"]}],
    "x-allowed": "given either command (a line for /bin/sh) or argv (a program and its"
    " arguments), and not both",
    "properties": {
        "command": {
            "title": "Command",
            "description": "A line, or a whole script, for /bin/sh. Run parameters"
            " arrive as variables named PARAM_*; quote them.",
            "type": "string",
            "minLength": 1,
            "maxLength": 100_000,
            "pattern": r"\S",
            "x-allowed": "more than blanks",
            "examples": ['pg_dump "$PARAM_DATABASE" | gzip > /backup/today.gz'],
        },
        "argv": {
            "title": "Program and arguments",
            "description": "Started as it is, without a shell: nothing is expanded.",
            "type": "array",
            "minItems": 1,
            "maxItems": 10_000,
            "prefixItems": [{"type": "string", "minLength": 1}],
            "items": {"type": "string"},
            "examples": [["/usr/bin/rsync", "-a", "/data/", "/backup/"]],
        },
        "cwd": {
            "title": "Working directory",
            "description": "An absolute path. Default: HOME, as cron does.",
            "type": "string",
            "maxLength": 4096,
            "pattern": "^/",
            "x-allowed": "an absolute path such as /srv/reports",
            "examples": ["/srv/reports"],
        },
        "env": {
            "title": "Environment",
            "description": "Variables for the command. The worker's own are not passed"
            " on, except " + ", ".join(INHERITED) + ".",
            "type": "object",
            "maxProperties": 200,
            "additionalProperties": {"type": "string", "maxLength": 100_000},
            "propertyNames": {
                "maxLength": 200,
                # PATH too: who may set variables must not choose the programs that a
                # command means. Inside a command it can be set like anywhere.
                "pattern": "^(?!GNOMON_|PARAM_|LD_)"
                "(?!(?:PATH|IFS|ENV|BASH_ENV|PYTHONPATH)$)"
                "[A-Za-z_][A-Za-z0-9_]*$",
                "x-allowed": "a name of letters, digits and _, other than PATH, IFS,"
                " ENV, BASH_ENV, PYTHONPATH and names starting with GNOMON_, PARAM_ or"
                " LD_ (set PATH inside the command)",
            },
            "examples": [{"REPORT_FORMAT": "pdf"}],
        },
        "stdin": {
            "title": "Standard input",
            "description": "Text that the command reads. Default: none (/dev/null).",
            "type": "string",
            "maxLength": 1_048_576,
            "examples": ["SELECT count(*) FROM orders;\n"],
        },
        "umask": {
            "title": "Umask",
            "description": "Octal mask of the permissions that new files do not get."
            " Default: the worker's.",
            "type": "string",
            "pattern": "^[0-7]{3,4}$",
            "x-allowed": "three or four octal digits such as 022",
            "examples": ["022"],
        },
        "isolation": {
            "title": "Isolation",
            "description": "none: as the worker's user. uid: as the user in run_as, who"
            " cannot become root. bwrap: in a sandbox where only the working directory"
            " and an empty /tmp can be written and no other process is seen. The worker"
            " shows which of them its host allows.",
            "type": "string",
            "enum": ["none", "uid", "bwrap"],
            "default": "none",
            "examples": ["bwrap"],
        },
        "run_as": {
            "title": "Run as",
            "description": "The user for isolation uid or bwrap; not root and not the"
            " worker's own. Needs a worker that runs as root.",
            "type": "string",
            "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,31}$",
            "x-allowed": "a user name such as nobody",
            "examples": ["nobody"],
        },
        "limits": {
            "title": "Limits",
            "description": "Of each process of the job, except processes, which counts"
            " all of its user's.",
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "cpu_seconds": {"type": "integer", "minimum": 1, "maximum": 31_536_000},
                "memory_bytes": {
                    "type": "integer",
                    "minimum": 16_777_216,
                    "maximum": 2**50,
                },
                "file_bytes": {"type": "integer", "minimum": 0, "maximum": 2**50},
                "processes": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
            },
            "examples": [{"cpu_seconds": 600, "memory_bytes": 1_073_741_824}],
        },
    },
    "if": {
        "properties": {"isolation": {"const": "uid"}},
        "required": ["isolation"],
    },
    "then": {"required": ["run_as"]},
    "else": {
        "if": {
            "properties": {"isolation": {"const": "bwrap"}},
            "required": ["isolation"],
        },
        "else": {
            "not": {"required": ["run_as"]},
            "x-allowed": "without run_as, which needs isolation uid or bwrap",
        },
    },
}

START_REASONS = {127: "command_not_found", 126: "not_executable"}


class ShellExecutor:
    """Runs `command` with /bin/sh, or `argv` directly."""

    name = "shell"
    schema = SCHEMA

    async def aclose(self) -> None:
        """End the running loop's job supervisor."""
        _inherited.cache_clear()
        _home.cache_clear()
        await supervisor.aclose()

    async def run(self, context: RunContext) -> Outcome:
        """Run to the end; on cancellation SIGTERM, grace, SIGKILL, then re-raise."""
        output = _Output(context.write)
        result = (await supervisor.current()).result_file()
        try:
            await _demand(context.payload)
            code = await run_process(
                _command(context, result),
                write=output.write,
                grace_seconds=context.grace_seconds,
            )
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(result)
            if isinstance(error, StartFailed | JobStopped | RunAsRefused):
                return Outcome(
                    OutcomeStatus.FAILED,
                    error=one_line(str(error)),
                    reason=error.reason,
                )
            raise
        return _with_result(_outcome(code, output, context.payload), result, output)


async def _demand(payload: Mapping[str, Any]) -> None:
    """Raise StartFailed if the host lacks what the payload asks for."""
    for tool in tools_of(payload):
        if lack := await containment.missing(tool):
            asked = "limits" if tool == "limits" else f"isolation {tool}"
            raise StartFailed(
                "isolation_unavailable", f"{asked} is not available here: {lack}"
            )
    is_own = "processes" in payload.get("limits", {}) and "run_as" not in payload
    if is_own and os.geteuid() == 0:
        raise StartFailed(
            "isolation_unavailable",
            "limits.processes does not bind root, as whom this worker runs: name"
            " another user in run_as",
        )


class _Output:
    """Passes output on and remembers how stderr ended."""

    def __init__(self, write: WriteOutput) -> None:
        self._write = write
        self._tail = b""

    def write(self, stream: Stream, chunk: bytes) -> None:
        self._write(stream, chunk)
        if stream == "stderr":
            self._tail = (self._tail + chunk[-ERROR_TAIL_BYTES:])[-ERROR_TAIL_BYTES:]

    def last_error_line(self) -> str:
        lines = self._tail.decode("utf-8", "replace").split("\n")
        return next((line for line in map(one_line, reversed(lines)) if line), "")


def _command(context: RunContext, result: str) -> Command:
    payload = context.payload
    stdin = payload.get("stdin")
    user = user_of(payload["run_as"]) if "run_as" in payload else None
    cwd = payload.get("cwd") or (_directory(user.pw_dir) if user else _home())
    argv = payload.get("argv") or ("/bin/sh", "-c", payload["command"])
    is_boxed = payload.get("isolation") == "bwrap"
    if is_boxed:
        argv = bwrap(argv, cwd=cwd, writable=(cwd, result))
    if user:
        argv = setpriv(argv, user.pw_uid, user.pw_gid, name=user.pw_name)
    if limits := payload.get("limits"):
        argv = prlimit(argv, limits)
    owner = (user.pw_uid, user.pw_gid) if user else None
    if owner or is_boxed:
        create_result(result, owner)
    return Command(
        argv=argv,
        environment=_environment(context, result, user),
        cwd=cwd,
        stdin=None if stdin is None else stdin.encode(),
        umask=int(payload.get("umask", "-1"), 8),
        owner=owner,
        shields_term=is_boxed,
        lease=context.lease,
    )


def _environment(
    context: RunContext, result: str, user: struct_passwd | None
) -> dict[str, str]:
    """What the job sees; the platform's own variables win over the payload's."""
    inherited = _inherited()
    if user:
        inherited = inherited | {
            "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name,
        }  # fmt: skip
    return {
        **inherited,
        **context.payload.get("env", {}),
        **context.environment,
        "GNOMON_OUTPUT": result,
    }


@cache
def _inherited() -> dict[str, str]:
    """Read once: to read the environment costs more than all else in a job's."""
    found = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {"PATH": DEFAULT_PATH, **found}


@cache
def _home() -> str:
    """Looked for once, as the environment is read."""
    return _directory(_inherited().get("HOME", "/"))


def _directory(path: str) -> str:
    return path if os.path.isdir(path) else "/"


def _with_result(outcome: Outcome, path: str, output: _Output) -> Outcome:
    """Add what the job wrote to $GNOMON_OUTPUT. A value that cannot be kept does not
    undo the work: the outcome stands, and its error and the log say so."""
    try:
        result = take_result(path)
    except ResultInvalid as error:
        words = one_line(f"no result was kept: $GNOMON_OUTPUT {error}")
        output.write("stderr", f"gnomon: {words}\n".encode())
        return replace(outcome, error=outcome.error or words)
    return outcome if result is None else replace(outcome, result=result)


def _outcome(code: int, output: _Output, payload: Mapping[str, Any]) -> Outcome:
    if code == 0:
        return Outcome(OutcomeStatus.SUCCEEDED, exit_code=0)
    if code < 0:
        reason, error = "signal", f"killed by {_signal_name(-code)}"
    else:
        reason, error = "exit_code", f"exit code {code}"
        if "command" in payload or tools_of(payload):
            reason = START_REASONS.get(code, reason)
    if last_error_line := output.last_error_line():
        error = f"{error}: {last_error_line}"
    return Outcome(
        OutcomeStatus.FAILED, exit_code=code, error=one_line(error), reason=reason
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
