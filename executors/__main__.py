"""Runs one job by hand, without a server: python -m executors shell --command date."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from executors import registry
from executors.base import Executor, Outcome, OutcomeStatus, RunContext, Stream
from executors.execution import execute
from executors.payloads import PayloadInvalid, Problem, validate_payload

USAGE_ERROR = 2
SIGNAL_OFFSET = 128
OWN_OPTIONS = frozenset({"timeout", "grace", "json", "help"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    That is the job's own (128 + n if signal n killed it), or 0 for success and 1 for
    failure where there is none; 2 for a wrong command line or payload.
    """
    options = _parser().parse_args(arguments)
    if options.executor == "list":
        return _list()
    executor = registry.get(options.executor)
    payload = {
        field: value
        for field in _fields(executor)
        if (value := getattr(options, f"payload_{field}")) is not None
    }
    try:
        validate_payload(options.executor, payload)
    except PayloadInvalid as error:
        for problem in error.problems:
            _say(_complaint(executor, problem))
        return USAGE_ERROR
    outcome = asyncio.run(_run(executor, payload, options))
    _report(outcome, as_json=options.json)
    return _exit_code(outcome)


def _list() -> int:
    for name in registry.names():
        description = registry.get(name).schema.get("description", "")
        sys.stdout.write(f"{name:10} {description}\n")
    return 0


async def _run(
    executor: Executor, payload: Mapping[str, Any], options: argparse.Namespace
) -> Outcome:
    context = RunContext(
        payload=payload,
        environment={"GNOMON_RUN_ID": "manual", "GNOMON_ATTEMPT": "1"},
        write=_writer(all_to_stderr=options.json),
        grace_seconds=options.grace,
    )
    work = asyncio.create_task(execute(executor, context, options.timeout))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.cancel)
    try:
        return await work
    finally:
        await registry.aclose()


def _writer(*, all_to_stderr: bool) -> Any:
    def write(stream: Stream, chunk: bytes) -> None:
        is_stdout = stream == "stdout" and not all_to_stderr
        target: BinaryIO = sys.stdout.buffer if is_stdout else sys.stderr.buffer
        # A closed pipe (| head) ends the listening, not the job.
        with contextlib.suppress(BrokenPipeError):
            target.write(chunk)
            target.flush()

    return write


def _report(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        values = dataclasses.asdict(outcome) | {"status": outcome.status.value}
        sys.stdout.write(json.dumps(values) + "\n")
        return
    parts = [outcome.status.value]
    if outcome.reason:
        parts.append(f"({outcome.reason})")
    if outcome.error:
        parts.append(f"- {outcome.error}")
    elif isinstance(outcome.result, str | int | float | list):
        parts.append(json.dumps(outcome.result))
    _say(" ".join(parts))


def _exit_code(outcome: Outcome) -> int:
    if outcome.exit_code is None:
        return 0 if outcome.status is OutcomeStatus.SUCCEEDED else 1
    if outcome.exit_code < 0:
        return SIGNAL_OFFSET - outcome.exit_code
    return outcome.exit_code


def _complaint(executor: Executor, problem: Problem) -> str:
    if not problem.path:
        return problem.message
    field, *rest = problem.path
    name = _option(field) if field in _fields(executor) else field
    return f"{'.'.join((name, *rest))}: {problem.message}"


def _say(text: str) -> None:
    sys.stderr.write(f"executors: {text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m executors", description=__doc__)
    commands = parser.add_subparsers(dest="executor", required=True, metavar="EXECUTOR")
    commands.add_parser("list", help="list the installed executors")
    for name in registry.names():
        executor = registry.get(name)
        title = executor.schema.get("title", name)
        command = commands.add_parser(
            name, help=title, description=executor.schema.get("description", title)
        )
        for field, schema in _fields(executor).items():
            _add_option(command, field, schema)
        _add_own_options(command)
    return parser


def _add_own_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="stop the job after this time"
    )
    command.add_argument(
        "--grace", type=float, default=10.0, metavar="SECONDS",
        help="time between SIGTERM and SIGKILL (default: %(default)g)",
    )  # fmt: skip
    command.add_argument(
        "--json", action="store_true",
        help="print the outcome as JSON on stdout, the job's output on stderr",
    )  # fmt: skip


def _add_option(
    command: argparse.ArgumentParser, field: str, schema: Mapping[str, Any]
) -> None:
    # argparse formats help by %, which descriptions may contain.
    help_text = str(schema.get("description", "")).replace("%", "%%")
    kind = schema.get("type")
    if kind == "boolean":
        command.add_argument(
            _option(field), dest=f"payload_{field}", help=help_text, default=None,
            action=argparse.BooleanOptionalAction,
        )  # fmt: skip
        return
    convert, metavar = CONVERTERS.get(str(kind), (_json, "JSON"))
    if "enum" in schema:
        metavar = "{" + ",".join(map(str, schema["enum"])) + "}"
    command.add_argument(
        _option(field), dest=f"payload_{field}", help=help_text, type=convert,
        metavar=metavar,
    )  # fmt: skip


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is not JSON: {error}") from error


CONVERTERS: Mapping[str, tuple[Any, str]] = {
    "string": (str, "TEXT"),
    "integer": (int, "N"),
    "number": (float, "NUMBER"),
}


def _option(field: str) -> str:
    name = field.replace("_", "-")
    return f"--payload-{name}" if name in OWN_OPTIONS else f"--{name}"


def _fields(executor: Executor) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = executor.schema.get("properties", {})
    return fields


if __name__ == "__main__":
    sys.exit(main())
