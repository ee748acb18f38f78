"""One job's processes: started by the job supervisor, streamed, and all ended.

Its pipes are read by the event loop itself, as output comes, or all at once if the job
ends before watching them would pay. The supervisor tells when the job and all that it
started have ended, so output that a background child holds back is neither lost nor
waited for.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executors import supervisor
from executors.base import Stream, WriteOutput
from executors.supervisor import (
    End,
    JobLease,
    Link,
    NotStarted,
    Order,
    SupervisorLost,
    in_memory,
)

CHUNK_BYTES = 64 * 1024
ANSWER_SECONDS = 5.0
"""How long the supervisor may take, beyond the grace, to tell a stopped job's end."""
STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
STOP_WORDS = {
    "lease_lost": "stopped, for its worker could not renew its lease, so that the run"
    " may be started elsewhere",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start. `environment` is all the process gets; `umask` -1 keeps ours.

    `owner` is the (uid, gid) that the process will have, if not ours. `shields_term`
    starts it with SIGTERM ignored. `lease` is the one that it may not outlive.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: str
    stdin: bytes | None = None
    umask: int = -1
    owner: tuple[int, int] | None = None
    shields_term: bool = False
    lease: JobLease | None = None


class StartFailed(Exception):
    """The process could not be started; `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class JobStopped(Exception):
    """The job did not end by itself; `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


async def run_process(
    command: Command, *, write: WriteOutput, grace_seconds: float
) -> int:
    """Run to the end and return the exit code, or minus the number of the signal.

    When this returns or raises, nothing that the process started is alive. On
    cancellation it gets SIGTERM, `grace_seconds`, SIGKILL; another cancellation cuts
    the grace. If it had exited before, the exit code stands and is returned. Raises
    StartFailed, JobStopped, and whatever `write` raises.
    """
    job = await _start(command, write)
    try:
        await _end_of(job, grace_seconds)
    finally:
        job.close()
    return job.exit_code()


async def _end_of(job: _Job, grace_seconds: float) -> None:
    try:
        await job.end
    except asyncio.CancelledError:
        if not job.end.cancelled():
            return  # it came first
        job.end = job.loop.create_future()
        await _uninterrupted(job.stop(grace_seconds))
        raise


async def _start(command: Command, write: WriteOutput) -> _Job:
    try:
        link = await (await supervisor.current()).connected()
    except (OSError, RuntimeError) as error:
        raise StartFailed("start_failed", f"cannot start: {error}") from error
    return _Job(link, command, write)


class _Job:
    """A running job, its pipes, and the promise of its end, which a cancel of the task
    that waits for it cancels and which is made anew then."""

    def __init__(self, link: Link, command: Command, write: WriteOutput) -> None:
        self.loop = link.loop
        self.end: asyncio.Future[End] = self.loop.create_future()
        self._command = command
        self._write = write
        self._failure: Exception | None = None
        self._link = link
        self._number = link.number()
        self._pipes: dict[int, Stream] = {}
        self._is_watched = False
        files: list[int] = []
        try:
            if command.stdin is not None:
                files.append(in_memory(command.stdin, "stdin"))
            for stream in STREAMS:
                files += [self._open(stream, command.owner)]
        except OSError as error:
            for file in files:
                os.close(file)
            self.close()
            raise StartFailed(
                "start_failed", f"cannot start: {error.strerror}"
            ) from error
        link.later.call(self.watch)
        link.spawn(
            self._number,
            Order(
                argv=command.argv,
                environment=command.environment.items(),
                cwd=command.cwd,
                umask=command.umask,
                has_stdin=command.stdin is not None,
                files=files,
                shields_term=command.shields_term,
                lease=command.lease,
            ),
            self._ended,
        )

    def _ended(self, end: End) -> None:
        if self.end.cancelled():
            self.end = self.loop.create_future()
        self.end.set_result(end)

    def _open(self, stream: Stream, owner: tuple[int, int] | None) -> int:
        """A pipe: the job's end is returned, ours is kept."""
        reading, writing = os.pipe()
        self._pipes[reading] = stream
        os.set_blocking(reading, False)
        if owner is not None:
            os.fchown(writing, *owner)  # else it may not open /dev/stderr
        return writing

    def watch(self) -> None:
        """Pass on output as it comes from now on."""
        self._is_watched = True
        for pipe in self._pipes:
            self.loop.add_reader(pipe, self._on_output, pipe)

    def _on_output(self, pipe: int) -> int:
        """Pass on one chunk: one only, so that a flood leaves others their turn."""
        try:
            chunk = os.read(pipe, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not chunk:
            self._let_go(pipe)
        elif self._failure is None:
            try:
                self._write(self._pipes[pipe], chunk)
            except Exception as error:  # noqa: BLE001 - raised again by exit_code()
                self._failure = error
                self._link.stop(self._number, 0)
        return len(chunk)

    def exit_code(self) -> int:
        end = self.end.result()
        if isinstance(end, NotStarted):
            raise _explain(end, self._command) from end
        if isinstance(end, SupervisorLost):
            raise JobStopped(end.reason, str(end)) from end
        if self._failure is not None:
            raise self._failure
        if end.stopped:
            raise JobStopped(end.stopped, STOP_WORDS[end.stopped])
        return end.code

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, the grace, SIGKILL, and wait for the end."""
        self._link.stop(self._number, grace_seconds)
        try:
            await asyncio.wait({self.end}, timeout=grace_seconds + ANSWER_SECONDS)
        except asyncio.CancelledError:
            self._link.stop(self._number, 0)
            await _uninterrupted(self._stopped())
            raise
        await self._stopped()

    async def _stopped(self) -> None:
        done, _ = await asyncio.wait({self.end}, timeout=ANSWER_SECONDS)
        if not done:
            self._link.give_up()  # it does not answer: all its jobs end with it
            await asyncio.wait({self.end})

    def close(self) -> None:
        """Pass on what the dead left in the pipes, then let go of them.

        No more than one pipeful: whoever got hold of the other end may write for ever.
        """
        for pipe in tuple(self._pipes):
            if size := self._on_output(pipe):
                left = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) - size
                while left > 0 and (size := self._on_output(pipe)):
                    left -= size
            if pipe in self._pipes:
                self._let_go(pipe)

    def _let_go(self, pipe: int) -> None:
        del self._pipes[pipe]
        if self._is_watched:
            self.loop.remove_reader(pipe)
        os.close(pipe)


async def _uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end, then let a cancellation that came meanwhile through."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _explain(error: NotStarted, command: Command) -> StartFailed:
    """Name the cause of a failed start; the system's errno alone is ambiguous."""
    program = command.argv[0]
    if error.where == "cwd":
        return _explain_cwd(error.errno, command.cwd)
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        if _exists(program, command):
            return StartFailed(
                "interpreter_not_found",
                f"the interpreter in the first line of {program} does not exist",
            )
        return StartFailed("command_not_found", f"there is no program {program}")
    reason, words = START_FAILURES.get(error.errno, ("start_failed", str(error)))
    return StartFailed(reason, f"cannot start {program[:200]}: {words}")


START_FAILURES = {
    errno.EACCES: ("permission_denied", "permission denied (is it executable?)"),
    errno.EPERM: ("permission_denied", "operation not permitted"),
    errno.E2BIG: (
        "arguments_too_long",
        "arguments and environment are too long for the system; use stdin",
    ),
    errno.ENOEXEC: (
        "not_executable",
        "not a program of this machine, and no first line naming an interpreter",
    ),
}


def _explain_cwd(number: int | None, cwd: str) -> StartFailed:
    if number == errno.EACCES:
        return StartFailed("cwd_permission_denied", f"no permission to enter {cwd}")
    if number == errno.ENOTDIR:
        return StartFailed("cwd_not_a_directory", f"{cwd} is not a directory")
    return StartFailed("cwd_not_found", f"there is no directory {cwd}")


def _exists(program: str, command: Command) -> bool:
    if "/" in program:
        return Path(command.cwd, program).exists()
    return shutil.which(program, path=command.environment.get("PATH")) is not None
