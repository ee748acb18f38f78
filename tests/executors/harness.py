"""Runs payloads for real and keeps what a user would see of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

from executors import registry
from executors.base import Outcome, RunContext, Stream
from executors.execution import execute
from executors.marks import read_mark

DEADLINE_SECONDS = 10.0

T = TypeVar("T")


@dataclass
class Output:
    """What a job wrote, by stream."""

    stdout: bytes = b""
    stderr: bytes = b""
    largest_chunk: int = 0
    total_bytes: int = 0
    kept_bytes: int = field(default=1_000_000)

    def write(self, stream: Stream, chunk: bytes) -> None:
        self.largest_chunk = max(self.largest_chunk, len(chunk))
        self.total_bytes += len(chunk)
        kept = getattr(self, stream)
        if len(kept) <= self.kept_bytes:
            setattr(self, stream, kept + chunk)


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run in a new loop and give back what executors hold for it."""

    async def wrapped() -> T:
        try:
            return await work
        finally:
            await registry.aclose()

    return asyncio.run(wrapped())


def start(
    name: str,
    payload: Mapping[str, Any],
    *,
    output: Output | None = None,
    timeout_seconds: float | None = 20,
    grace_seconds: float = 5,
    environment: Mapping[str, str] | None = None,
) -> asyncio.Task[Outcome]:
    context = RunContext(
        payload=payload,
        environment=environment or {},
        write=(output or Output()).write,
        grace_seconds=grace_seconds,
    )
    return asyncio.create_task(execute(registry.get(name), context, timeout_seconds))


def run(name: str, payload: Mapping[str, Any], **options: Any) -> Outcome:
    async def work() -> Outcome:
        return await start(name, payload, **options)

    return in_loop(work())


def shell(command: str, **options: Any) -> tuple[Outcome, Output]:
    output = Output()
    return run("shell", {"command": command}, output=output, **options), output


async def eventually(condition: Callable[[], Any]) -> Any:
    """Wait until `condition()` is true and return its value."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "the awaited state did not come"
        await asyncio.sleep(0.005)
    return value


def is_alive(pid: int) -> bool:
    """Whether a job's process runs; a zombie, dead but not yet reaped, does not.

    `pid` is the number that the job knows: its own PID namespace's, where it has one.
    """
    return any(_is_job(Path(entry), pid) for entry in glob("/proc/[0-9]*"))


def _is_job(entry: Path, pid: int) -> bool:
    status = _status(entry)
    numbers = status.get("NSpid", "").split()
    if numbers[-1:] != [str(pid)] or status["State"][0] in "ZX":
        return False
    # An orphan without a namespace is no descendant of ours, but its number is unique.
    return _is_ours(status) or (len(numbers) == 1 and read_mark(pid) != 0)


def _is_ours(status: dict[str, str]) -> bool:
    while status and status["PPid"] != str(os.getpid()):
        status = _status(Path("/proc") / status["PPid"])
    return bool(status)


def _status(entry: Path) -> dict[str, str]:
    try:
        lines = (entry / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (x.partition(":") for x in lines)}


def pids_in(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
