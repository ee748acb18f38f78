"""The worker's end of its job supervisor: starts it, gives it jobs, hears their ends.

One supervisor process per worker is the parent of all its jobs (see `spawner`). A
process per job or a namespace per job would cost more than most jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import marshal
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from executors import marks, spawner
from executors.job import now
from executors.later import Later
from executors.launch import MAX_MESSAGE_BYTES

START_SECONDS = 15.0
LARGE_BYTES = 64 * 1024
"""From this size on an order travels in a file: a message has its limit."""
FULL_SECONDS = 0.01
CROWD = 30
"""Orders of one turn of the loop that are held back: each has files open."""
WATCH_SECONDS = 0.1
"""How old a job is when its output begins to be passed on as it comes, or half as much
again. Most end before, and to tell the event loop of two pipes costs as much as all
else about them."""

ROOT = Path(spawner.__file__).parents[1]
NAMESPACE = ("--pid", "--fork", "--kill-child", "--mount-proc")
# Only /proc becomes the supervisor's own: what jobs mount, the host still sees.
PROPAGATION = ("--propagation", "unchanged")
PROGRAM = """\
import sys
sys.path.append(sys.argv.pop(1))
from executors.spawner import main
main(sys.argv[1:])"""
CONFINEMENTS: dict[str, tuple[str, ...] | None] = {
    "root": (*NAMESPACE, *PROPAGATION),
    "user": ("--user", "--map-current-user", *NAMESPACE, *PROPAGATION),
    "none": None,
}
"""Ways to contain, the best first, with the arguments of unshare(1)."""

WEAKER = (
    "supervisor.no_pid_namespace: what jobs leave behind is found and killed while this"
    " worker lives, but outlives it if it and its supervisor are killed at once"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobLease:
    """What ties a job to its attempt's lease.

    `key` names the attempt, such as (run id, attempt), and is what `renew` is given.
    `is_repeatable` says that another worker may start the run again, so that this job
    must not outlive the lease. `renewed_at` is `supervisor.clock()` at the claim.
    """

    key: Hashable
    is_repeatable: bool
    renewed_at: float = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended: its exit code, or minus the signal; and why if not by itself.

    `stopped` is "" or "lease_lost".
    """

    code: int
    stopped: str = ""


class SupervisorLost(Exception):
    """The job supervisor died, and its jobs with it."""

    reason = "supervisor_lost"

    def __init__(self) -> None:
        super().__init__("the job supervisor died, and the job was killed with it")


class NotStarted(Exception):
    """The supervisor could not start the command; `where` is "cwd" or "program"."""

    def __init__(self, where: str, errno: int, message: str) -> None:
        self.where = where
        self.errno = errno
        super().__init__(message)


End = JobEnd | NotStarted | SupervisorLost

clock = now
"""Seconds on the clock of leases: it goes on while the host is suspended."""


@dataclass(slots=True)
class Order:
    """A command for the supervisor; `files` are stdin, if any, stdout and stderr."""

    argv: Sequence[str]
    environment: Iterable[tuple[str, str]]
    cwd: str
    umask: int
    has_stdin: bool
    files: Sequence[int]
    shields_term: bool = False
    """Whether the program starts with SIGTERM ignored."""
    lease: JobLease | None = None


class Supervisor:
    """A supervisor process, and the next one if it dies. Belongs to one event loop.

    `alive` and `renew` may be called from any thread.
    """

    def __init__(
        self, lease_seconds: float | None, ways: Sequence[str] = ("root", "none")
    ) -> None:
        self.lease_seconds = lease_seconds
        self.folder = Path(tempfile.mkdtemp(prefix="gnomon-"))
        """Where jobs write results; others may pass through it to their own file."""
        self.folder.chmod(0o711)
        self.missing: dict[str, str] = {}
        """What the host was found to lack: see `containment`."""
        self._ways = list(ways)
        self._link: Link | None = None
        self._starting = asyncio.Lock()
        self._results = itertools.count(1)

    @classmethod
    async def start(
        cls,
        *,
        lease_seconds: float | None = None,
        ways: Sequence[str] = ("root", "none"),
    ) -> Supervisor:
        """Start the supervisor of the running loop, which all its jobs will have.

        Without `lease_seconds` only the worker's death ends its jobs. `ways` are those
        of CONFINEMENTS to try, in their order. With "none" jobs see, and can signal,
        the processes of the host, and containment is weaker; "user" is not tried
        unasked, for in it `sudo` does not work. Raises RuntimeError if none can be
        started.
        """
        loop = asyncio.get_running_loop()
        if loop in _supervisors:
            raise RuntimeError("this loop has its supervisor already")
        supervisor = _supervisors[loop] = cls(lease_seconds, ways)
        try:
            await supervisor.connected()
        except BaseException:
            await supervisor.aclose()
            raise
        return supervisor

    @property
    def confinement(self) -> str:
        """How jobs are confined: "root" or "user", after who made the PID namespace, or
        "none"; "" before the start."""
        return self._link.way if self._link else ""

    @property
    def pid(self) -> int | None:
        """The supervisor's process id, or that of unshare(1), its parent."""
        return self._link.process.pid if self._link else None

    def alive(self) -> None:
        """Tell that the worker lives. Due several times per lease, whatever the
        database does."""
        if self._link is not None:
            self._link.send_now(("alive", clock()))

    def renew(self, keys: Iterable[Hashable], at: float | None = None) -> None:
        """Tell which leases were renewed; `at` is `clock()` just before that began."""
        moment = clock() if at is None else at
        held = list(keys)
        for start in range(0, len(held), 1000):
            if self._link is not None:
                part = held[start : start + 1000]
                self._link.send_now(("renew", part, moment))

    async def connected(self) -> Link:
        """The running supervisor, started if there is none."""
        if self._link is None or self._link.is_lost:
            async with self._starting:
                if self._link is None or self._link.is_lost:
                    self._link = await self._start()
        return self._link

    async def _start(self) -> Link:
        while True:
            way = self._ways[0]
            link = Link(way, self.lease_seconds, self.folder)
            try:
                async with asyncio.timeout(START_SECONDS):
                    await asyncio.shield(link.ready)
            except (SupervisorLost, TimeoutError):
                await link.aclose()
                if len(self._ways) == 1:
                    raise RuntimeError("the job supervisor does not start") from None
                self._ways.pop(0)  # this host will not allow it the next time either
                continue
            except BaseException:
                await link.aclose()
                raise
            self._ways = [way]  # what has worked once is not given up for less
            if way == "none":
                log.warning(WEAKER)
            return link

    async def aclose(self) -> None:
        """End the supervisor and all jobs that it still has."""
        _supervisors.pop(asyncio.get_running_loop(), None)
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)

    def result_file(self) -> str:
        """A path that the next job may write its result to."""
        return f"{self.folder}/{next(self._results)}"


async def current() -> Supervisor:
    """The running loop's supervisor; started, without a lease, if there is none."""
    loop = asyncio.get_running_loop()
    supervisor = _supervisors.get(loop)
    if supervisor is None:
        supervisor = _supervisors[loop] = Supervisor(None)
    return supervisor


async def aclose() -> None:
    """End the supervisor of the running loop, if it has one."""
    supervisor = _supervisors.get(asyncio.get_running_loop())
    if supervisor is not None:
        await supervisor.aclose()


_supervisors: WeakKeyDictionary[asyncio.AbstractEventLoop, Supervisor] = (
    WeakKeyDictionary()
)


class Link:
    """One supervisor process and the socket to it. For `processes` only."""

    def __init__(self, way: str, lease_seconds: float | None, folder: Path) -> None:
        self.way = way
        self.loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self.is_lost = False
        self._identity = secrets.randbelow(1 << 24)
        self.later = Later(self.loop, WATCH_SECONDS)
        self._numbers = itertools.count(1)
        self._burial: asyncio.Task[None] | None = None
        self._ends: dict[int, Callable[[End], None]] = {}
        self._outbox: deque[tuple[socket.socket, bytes, Sequence[int]]] = deque()
        self._buffer = memoryview(bytearray(MAX_MESSAGE_BYTES))
        with contextlib.ExitStack() as unused, contextlib.ExitStack() as given:
            self._socket, link = _pair(unused, given)
            self._orders, orders = _pair(unused, given)
            theirs = [link.fileno(), orders.fileno()]
            self.process = self._popen(theirs, lease_seconds, folder)
            unused.pop_all()
        self.loop.add_reader(self._socket, self._receive)

    def _popen(
        self, links: Sequence[int], lease_seconds: float | None, folder: Path
    ) -> subprocess.Popen[bytes]:
        arguments = CONFINEMENTS[self.way]
        unshare = shutil.which("unshare") or "/usr/bin/unshare"
        return subprocess.Popen(  # noqa: S603 - its own program
            [
                *([] if arguments is None else [unshare, *arguments]),
                sys.executable, "-I", "-S", "-c", PROGRAM, str(ROOT),
                *map(str, links), str(self._identity), str(lease_seconds or 0),
                str(folder),
            ],
            cwd="/",
            # Jobs may look into it: no secret of the worker's may be there.
            env={k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"},
            pass_fds=links,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if arguments is not None else None,
        )  # fmt: skip

    def number(self) -> int:
        """A number for the next job."""
        return next(self._numbers)

    def spawn(self, number: int, order: Order, ended: Callable[[End], None]) -> None:
        """Have the job started; the files are closed when they are on their way.

        `ended` is called, not before this returns, with the job's end, or NotStarted
        or SupervisorLost.
        """
        self._ends[number] = ended
        data = marshal.dumps(_request(number, order))
        files = order.files
        if len(data) > LARGE_BYTES:
            try:
                files = [in_memory(data, "order"), *files]
            except OSError:
                _close(files)
                self._lose()
                return
            data = marshal.dumps(None)
        self._send(self._orders, data, files)

    def stop(self, number: int, grace_seconds: float) -> None:
        """SIGTERM to the job, SIGKILL after the grace; again to shorten the grace."""
        message = ("stop", number, float(grace_seconds))
        self._send(self._socket, marshal.dumps(message), ())

    def _send(self, link: socket.socket, data: bytes, files: Sequence[int]) -> None:
        self._outbox.append((link, data, files))
        if len(self._outbox) == 1:
            # At the end of the turn: each order wakes a process that takes this one's
            # place on its processor, and would do so between any two of a crowd.
            self.loop.call_soon(self._flush)
        elif len(self._outbox) == CROWD:
            self._flush()

    def _flush(self) -> None:
        while self._outbox and not self.is_lost:
            link, data, files = self._outbox[0]
            try:
                if files:
                    socket.send_fds(link, [data], list(files))
                else:
                    link.send(data)
            except OSError as error:
                if isinstance(error, BrokenPipeError | ConnectionError):
                    self._lose()
                    return
                # It is full, or too many files are under way (ETOOMANYREFS).
                self.loop.call_later(FULL_SECONDS, self._flush)
                return
            self._outbox.popleft()
            _close(files)

    def send_now(self, message: tuple[Any, ...]) -> None:
        """Send from any thread. If the socket is full it is left: another follows."""
        with contextlib.suppress(OSError):
            self._socket.send(marshal.dumps(message))

    def _receive(self) -> None:
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._lose()
            return
        for news in marshal.loads(self._buffer[:size]):  # noqa: S302 - our own process's
            self._hear(*news)

    def _hear(self, kind: str, number: int, *values: Any) -> None:
        if kind == "hello":
            if not self.ready.done():
                self.ready.set_result(None)
        elif kind == "left":
            log.error("process.unkillable: group=%s pids=%s", *values)
        else:
            ended = self._ends.pop(number)
            ended(JobEnd(*values) if kind == "ended" else NotStarted(*values))

    def give_up(self) -> None:
        """Kill a supervisor that does not answer any more."""
        self.process.kill()
        self._lose()

    def _lose(self) -> None:
        """The process has gone. Without a namespace its jobs have yet to be killed."""
        if self.is_lost:
            return
        self.is_lost = True
        self.loop.remove_reader(self._socket)
        self._close()
        if not self.ready.done():
            self.ready.set_exception(SupervisorLost())
            return
        log.error("supervisor.lost: jobs=%s", len(self._ends))
        self._burial = self.loop.create_task(self._bury())

    def _close(self) -> None:
        self._socket.close()
        self._orders.close()
        for _, _, files in self._outbox:
            _close(files)
        self._outbox.clear()

    async def _bury(self) -> None:
        await asyncio.to_thread(self._kill)
        self._tell_lost()

    def _tell_lost(self) -> None:
        while self._ends:
            _, ended = self._ends.popitem()
            ended(SupervisorLost())

    def _kill(self) -> None:
        """Kill what is left of the supervisor and its jobs, and wait for it."""
        self.process.kill()  # unshare(1) takes the namespace with it
        self.process.wait()
        if self.way != "none":
            return
        for _ in range(100):
            pids = marks.marked_processes(self._identity)
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        log.error("process.unkillable: pids=%s", pids)

    async def aclose(self) -> None:
        """Let go of the process, which ends its jobs and then itself."""
        if self.is_lost:
            await (self._burial or asyncio.to_thread(self._kill))
            return
        self.is_lost = True
        self.loop.remove_reader(self._socket)
        self._close()
        if not self.ready.done():
            self.ready.cancel()
        try:
            await asyncio.to_thread(self.process.wait, START_SECONDS)
        except subprocess.TimeoutExpired:
            await asyncio.to_thread(self._kill)
        self._tell_lost()


def _pair(
    unused: contextlib.ExitStack, given: contextlib.ExitStack
) -> tuple[socket.socket, socket.socket]:
    """Our end, which never blocks, and theirs; what one sends, the other gets whole.
    Each is closed with its stack."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)  # noqa: FBT003 - its only form
    return unused.enter_context(ours), given.enter_context(theirs)


_encode = methodcaller(
    "encode", sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
)
"""What os.fsencode() does with a string, at half its price."""


def _request(number: int, order: Order) -> tuple[Any, ...]:
    lease = order.lease
    return (
        number,
        None if lease is None else (lease.key, lease.is_repeatable, lease.renewed_at),
        [_encode(argument) for argument in order.argv],
        [_encode(f"{name}={value}") for name, value in order.environment],
        _encode(order.cwd),
        order.umask,
        order.has_stdin,
        order.shields_term,
    )


def in_memory(content: bytes, name: str) -> int:
    """A file in memory to be read from its start; raises OSError."""
    file = os.memfd_create(name)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        os.lseek(file, 0, os.SEEK_SET)
    except BaseException:
        os.close(file)
        raise
    return file


def _close(files: Iterable[int]) -> None:
    for file in files:
        os.close(file)
