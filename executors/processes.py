"""One job's processes: started in a group of their own, streamed, and all ended.

Pipes and the process's pidfd are watched by the event loop itself, without asyncio's
subprocess layer. That one reaps the leader before its group can be killed, may lose
or wait for output that a background child holds back, and needs a child watcher
(Python 3.11, any loop outside the main thread) that later versions took away.
Needs Linux 5.3 for pidfd.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from executors.base import Stream, WriteOutput

CHUNK_BYTES = 64 * 1024
LEFTOVER_SECONDS = 2.0
"""How long after SIGKILL a process may take to vanish before it is reported."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start. `environment` is all the process gets; `umask` -1 keeps ours."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: str
    stdin: bytes | None = None
    umask: int = -1


class StartFailed(Exception):
    """The process could not be started; `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


async def run_process(
    command: Command, *, write: WriteOutput, grace_seconds: float
) -> int:
    """Run to the end and return the exit code, or minus the number of the signal.

    When this returns or raises, the process group is dead. On cancellation the group
    gets SIGTERM, `grace_seconds`, SIGKILL; another cancellation cuts the grace. If
    the process had exited before, the exit code stands and is returned. Raises
    StartFailed, and whatever `write` raises.
    """
    job = _Job(command, write)
    try:
        await asyncio.shield(job.exited)
    except asyncio.CancelledError:
        if not job.exited.done():
            try:
                await job.terminate(grace_seconds)
            finally:
                await _uninterrupted(job.bury())
            raise
    if not job.is_buried:
        await _uninterrupted(job.bury())
    return job.exit_code()


class _Job:
    """A running process, its pipes, and the promise of its exit code."""

    def __init__(self, command: Command, write: WriteOutput) -> None:
        self.loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[None] = self.loop.create_future()
        self.is_buried = False
        self._write = write
        self._failure: Exception | None = None
        self._process, self._pidfd = _start(command)
        self._group = self._process.pid
        self._pipes: dict[int, Stream] = {}
        for pipe, stream in self._streams():
            os.set_blocking(pipe, False)
            self._pipes[pipe] = stream
            self.loop.add_reader(pipe, self._on_output, pipe)
        self.loop.add_reader(self._pidfd, self._on_exit)

    def _streams(self) -> tuple[tuple[int, Stream], tuple[int, Stream]]:
        stdout, stderr = self._process.stdout, self._process.stderr
        if stdout is None or stderr is None:
            raise AssertionError("the process has been started with pipes")
        return (stdout.fileno(), "stdout"), (stderr.fileno(), "stderr")

    def _on_output(self, pipe: int) -> int:
        """Pass on one chunk: one only, so that a flood leaves others their turn."""
        try:
            chunk = os.read(pipe, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        if not chunk:
            self._pipes.pop(pipe)
            self.loop.remove_reader(pipe)
        elif self._failure is None:
            try:
                self._write(self._pipes[pipe], chunk)
            except Exception as error:  # noqa: BLE001 - raised again by exit_code()
                self._failure = error
                self._signal(signal.SIGKILL)
        return len(chunk)

    def _on_exit(self) -> None:
        self.loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # The unreaped leader keeps its number from being given to another group.
        self._signal(signal.SIGKILL)
        try:
            _, status = os.waitpid(self._group, 0)
        except ChildProcessError:
            # Popen.wait() takes this for exit code 0: a false success.
            self._process.returncode = -1
            self._failure = RuntimeError("someone else's waitpid took the exit status")
        else:
            self._process.returncode = os.waitstatus_to_exitcode(status)
        if not _has_members(self._group):
            self._close_pipes()
            self.is_buried = True
        self.exited.set_result(None)

    def exit_code(self) -> int:
        if self._failure is not None:
            raise self._failure
        return int(self._process.returncode)

    async def terminate(self, grace_seconds: float) -> None:
        """SIGTERM to the group, the grace, SIGKILL."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process would not see the SIGTERM
        try:
            await asyncio.wait({self.exited}, timeout=grace_seconds)
        finally:
            self._signal(signal.SIGKILL)

    async def bury(self) -> None:
        """Wait until nothing of the group is alive; report what refuses to die."""
        if self.is_buried:
            return
        deadline = self.loop.time() + LEFTOVER_SECONDS
        await asyncio.wait({self.exited}, timeout=LEFTOVER_SECONDS)
        pause = 0.001
        while left := _living_members(self._group):
            if self.loop.time() > deadline:
                log.error("process.unkillable: group=%s pids=%s", self._group, left)
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.1)
        self._close_pipes()
        self.is_buried = True

    def _close_pipes(self) -> None:
        """Pass on what the dead left in the pipes, then let go of them.

        A process that left the group may hold a pipe open and write for ever: no
        more than one pipeful is taken.
        """
        for pipe in tuple(self._pipes):
            left = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
            while left > 0 and (size := self._on_output(pipe)):
                left -= size
            if self._pipes.pop(pipe, None):
                self.loop.remove_reader(pipe)
        for file in (self._process.stdout, self._process.stderr):
            if file is not None:
                file.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is not None:
            return  # reaped: the number may be another group's by now
        # PermissionError: all that is left has changed its user.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)


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


def _start(command: Command) -> tuple[subprocess.Popen[bytes], int]:
    stdin = _stdin(command.stdin)
    try:
        # Never preexec_fn: it turns vfork off, which is 10 times slower.
        process = subprocess.Popen(  # noqa: S603 - to run commands is the purpose
            command.argv,
            bufsize=0,
            cwd=command.cwd,
            env=command.environment,
            start_new_session=True,
            stderr=subprocess.PIPE,
            stdin=stdin,
            stdout=subprocess.PIPE,
            umask=command.umask,
        )
    except (OSError, ValueError) as error:
        raise _explain(error, command) from error
    finally:
        if stdin != subprocess.DEVNULL:
            os.close(stdin)
    try:
        return process, os.pidfd_open(process.pid)
    except OSError as error:
        with process:
            os.killpg(process.pid, signal.SIGKILL)
        raise _explain(error, command) from error


def _stdin(content: bytes | None) -> int:
    """A file in memory: unlike a pipe it never blocks and cannot break."""
    if content is None:
        return subprocess.DEVNULL
    try:
        file = os.memfd_create("stdin")
    except OSError as error:
        raise StartFailed("start_failed", f"cannot start: {error.strerror}") from error
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _explain(error: Exception, command: Command) -> StartFailed:
    """Name the cause of a failed start; the system's errno alone is ambiguous."""
    number = getattr(error, "errno", None)
    program = command.argv[0]
    if getattr(error, "filename", None) == command.cwd and program != command.cwd:
        return _explain_cwd(number, command.cwd)
    if number in {errno.ENOENT, errno.ENOTDIR}:
        if _exists(program, command):
            return StartFailed(
                "interpreter_not_found",
                f"the interpreter in the first line of {program} does not exist",
            )
        return StartFailed("command_not_found", f"there is no program {program}")
    reason, words = START_FAILURES.get(
        number or 0, ("start_failed", getattr(error, "strerror", None) or str(error))
    )
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


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _living_members(group: int) -> list[int]:
    """The processes of the group that are not zombies.

    A killed orphan stays a zombie until init reaps it, which in a container without
    one is never; it runs no more, but counts for killpg().
    """
    if not _has_members(group):
        return []
    return [pid for pid in _all_processes() if _lives_in(pid, group)]


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _lives_in(pid: int, group: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # proc(5): pid (comm) state ppid pgrp; comm may contain blanks and brackets.
    state, _, process_group = stat.rpartition(b")")[2].split()[:3]
    return int(process_group) == group and state not in {b"Z", b"X"}
