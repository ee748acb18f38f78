"""Runs a command of this machine: a line for /bin/sh, or a program with arguments."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from executors.base import Outcome, OutcomeStatus, RunContext, Stream, WriteOutput
from executors.processes import Command, StartFailed, run_process
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
    "description": "Runs a command on the worker, in a process group of its own.",
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
    },
}

START_REASONS = {127: "command_not_found", 126: "not_executable"}


class ShellExecutor:
    """Runs `command` with /bin/sh, or `argv` directly."""

    name = "shell"
    schema = SCHEMA

    async def run(self, context: RunContext) -> Outcome:
        """Run to the end; on cancellation SIGTERM, grace, SIGKILL, then re-raise."""
        output = _Output(context.write)
        try:
            code = await run_process(
                _command(context),
                write=output.write,
                grace_seconds=context.grace_seconds,
            )
        except StartFailed as error:
            return Outcome(
                OutcomeStatus.FAILED, error=one_line(str(error)), reason=error.reason
            )
        is_shell = "command" in context.payload
        return _outcome(code, output.last_error_line(), is_shell=is_shell)


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


def _command(context: RunContext) -> Command:
    payload = context.payload
    stdin = payload.get("stdin")
    home = os.environ.get("HOME", "/")
    return Command(
        argv=payload.get("argv") or ("/bin/sh", "-c", payload["command"]),
        environment=_environment(context),
        cwd=payload.get("cwd") or (home if Path(home).is_dir() else "/"),
        stdin=None if stdin is None else stdin.encode(),
        umask=int(payload.get("umask", "-1"), 8),
    )


def _environment(context: RunContext) -> dict[str, str]:
    """What the job sees; the platform's own variables win over the payload's."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {
        "PATH": DEFAULT_PATH,
        **inherited,
        **context.payload.get("env", {}),
        **context.environment,
    }


def _outcome(code: int, last_error_line: str, *, is_shell: bool) -> Outcome:
    if code == 0:
        return Outcome(OutcomeStatus.SUCCEEDED, exit_code=0)
    if code < 0:
        reason, error = "signal", f"killed by {_signal_name(-code)}"
    else:
        reason, error = "exit_code", f"exit code {code}"
        if is_shell:
            reason = START_REASONS.get(code, reason)
    if last_error_line:
        error = f"{error}: {last_error_line}"
    return Outcome(
        OutcomeStatus.FAILED, exit_code=code, error=one_line(error), reason=reason
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
