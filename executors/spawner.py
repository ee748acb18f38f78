"""The job supervisor's process: the parent of all jobs of one worker.

The worker runs `main` in an interpreter of its own, in a PID namespace where the host
allows one.
Its threads take orders from one socket, whichever is free, and start each job in a
session of its own. The main thread ends it with all that it started, and tells how it
ended; what it hears, on another socket, are signs of life and orders to stop. When the
worker dies (end of file), freezes (no sign of life) or cannot renew a lease, it ends
the jobs by itself.

It imports only small parts of the standard library, for each worker pays its memory.
Orders and news are marshalled: both ends are one interpreter, and nobody else has an
end of the socket.
"""

from __future__ import annotations

import marshal
import os
import select
import time

# queue.py, signal.py, socket.py and typing.py would cost two thirds of the memory
# again for no use.
from _queue import SimpleQueue
from _signal import SIG_IGN, SIGHUP, SIGINT, SIGKILL, SIGTERM, signal  # type: ignore[import-not-found]  # no stub
from _socket import socket

from executors.job import Ignoring, Job, now
from executors.launch import MAX_MESSAGE_BYTES, Starters, libc, open_ends
from executors.marks import children_by_scan, mark_of, open_children, read_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

STOP_PART = 0.7
"""The part of a lease without renewal after which its jobs get SIGTERM ..."""
KILL_PART = 0.8
"""... and after which they get SIGKILL (promise C6)."""
ORPHAN_GRACE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL when the worker has died."""
CLEAR_SECONDS = 2.0
"""How long what a job leaves behind may take to die before the job's end is told."""
TICK_SECONDS = 0.05
CROWD = 4
CROWD_SECONDS = 0.004
"""How far apart the looks at ended jobs are while so many are under way: one look, one
wake-up of the worker and one message do for several ends. Fewer are not kept waiting:
that would be most of their time. A crowd is small here, for what waits to be started
is not counted."""
EARLY = 10_000
"""How far apart in number may be jobs that are under way at the same time."""

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36


def hide_process() -> None:
    """Keep other processes of the same user from reading this one's memory and
    environment, with which they would have its secrets. Root still can."""
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


class Spawner:
    """Starts, watches and ends jobs until the worker goes."""

    def __init__(
        self, links: Sequence[socket], identity: int, lease_seconds: float | None
    ):
        self.link, orders = links
        self.identity = identity
        self.lease_seconds = lease_seconds
        self.last_sign = now()
        self.jobs: dict[int, Job] = {}
        self.starting: set[int] = set()
        self.leaders: dict[int, Job] = {}
        self.clearing: list[Job] = []
        self.strays: dict[int, frozenset[int]] = {}
        """Children that are no leaders, with the numbers of the jobs that they may
        belong to: mostly one; if it bears no mark, all that there were."""
        self.unsure: dict[int, tuple[int, set[int]]] = {}
        """Children that may be leaders just started, with the marked job and the jobs
        that were starting."""
        self.doubles: dict[int, set[int]] = {}
        """Marks that processes of other jobs got as well, with these jobs."""
        self.news: list[tuple[Any, ...]] = []
        self.is_orphaned = False
        self.is_idle = False
        self.results: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.starters = Starters(self, orders)
        self._early: dict[int, float] = {}
        """When to kill jobs that were to stop before they were heard of."""
        self._children = open_children()
        self._look_at = self._reap_at = 0.0
        self._is_blocked = False
        self._buffer = memoryview(bytearray(MAX_MESSAGE_BYTES))
        self._ends = open_ends()
        self._poll = select.poll()
        for file in (self.waker, self._ends):
            self._poll.register(file, select.POLLIN)
        self._listen()

    def _listen(self) -> None:
        more = select.POLLOUT if self._is_blocked else 0
        self._poll.register(self.link.fileno(), select.POLLIN | more)

    def serve(self) -> None:
        """Work until the worker has gone and no job is left."""
        # The threads first: each may have left a job.
        while not self.is_orphaned or self.starters.are_alive() or self.jobs:
            for fd, events in self._poll.poll(self._pause()):
                if fd == self._ends:
                    self._await_others()
                    os.read(fd, 4096)
                elif fd == self.waker:
                    os.eventfd_read(fd)
                elif events & select.POLLIN:
                    self._receive()
                elif events & ~select.POLLOUT:
                    self._orphan()
            self._note_started()
            self._reap()
            if self.clearing:
                self._clear()
            self._look()
            self._tell()

    def _pause(self) -> float | None:
        """Milliseconds until something is due; what ends by itself wakes us."""
        if self.clearing or self.unsure or self.is_orphaned:
            return 2
        # Set before the look: a thread that has a job next will see it, and wake us.
        self.is_idle = True
        if self.jobs:
            self.is_idle = False
            return TICK_SECONDS * 1000
        return None

    def begin(self, number: int, lease: tuple[Any, bool, float] | None) -> None:
        """Note a job that the calling thread is about to start."""
        self.starting.add(number)
        self.jobs[number] = Job(number, lease)
        if self.is_idle:  # else it looks by itself, or is woken by the job's end
            os.eventfd_write(self.waker, 1)

    def _await_others(self) -> None:
        """Let more of a crowd end if some did just before."""
        moment = now()
        if moment < self._reap_at and len(self.jobs) >= CROWD:
            time.sleep(self._reap_at - moment)
            moment = self._reap_at
        self._reap_at = moment + CROWD_SECONDS

    def _receive(self) -> None:
        """Take one message, so that ends are seen to between two."""
        try:
            size = self.link.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._orphan()
            return
        order, *values = marshal.loads(self._buffer[:size])  # noqa: S302 - see above
        if order == "stop":
            self._stop(values[0], now() + values[1])
        elif order == "alive":
            self.last_sign = max(self.last_sign, values[0])
        elif order == "renew":
            self._renew(frozenset(values[0]), values[1])

    def _stop(self, number: int, kill_at: float) -> None:
        job = self.jobs.get(number)
        if job is None:  # it has ended, or no thread has taken its order yet
            self._early[number] = kill_at
            return
        job.stop(kill_at)
        self._look_at = 0.0

    def _renew(self, keys: Iterable[Any], at: float) -> None:
        for job in list(self.jobs.values()):
            if job.lease in keys:
                job.renewed_at = max(job.renewed_at, at)

    def _note_started(self) -> None:
        while not self.results.empty():
            number, pid, failure, double = self.results.get()
            self.starting.discard(number)
            job = self.jobs[number]
            if failure is not None:
                del self.jobs[number]
                self.news.append(("failed", number, *failure))
                continue
            if double:
                self.doubles.setdefault(double, set()).add(number)
            self.unsure.pop(pid, None)
            job.pid = pid
            self.leaders[pid] = job
            if job.kill_at is not None:
                job.terminate()
            if self._early:
                self._stop_early(job)

    def _stop_early(self, job: Job) -> None:
        kill_at = self._early.pop(job.number, None)
        if kill_at is not None:
            job.stop(kill_at)
            self._look_at = 0.0
        # Numbers rise: those far behind had ended when they were to stop.
        for number in [x for x in self._early if x < job.number - EARLY]:
            del self._early[number]

    def _reap(self) -> None:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, options)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            if pid not in self.leaders:
                self._note_started()
            if pid in self.leaders:
                self._reap_leader(pid)
            elif self._may_be_leader(pid):
                return  # its start is about to be told
            else:
                os.waitpid(pid, 0)
                self.strays.pop(pid, None)
                self.unsure.pop(pid, None)

    def _reap_leader(self, pid: int) -> None:
        job = self.leaders[pid]
        if self._children_pids():
            # The unreaped leader keeps its number from being another group's.
            job.signal(SIGKILL)
        del self.leaders[pid]
        _, status = os.waitpid(pid, 0)
        job.status = os.waitstatus_to_exitcode(status)
        job.clear_by = now() + CLEAR_SECONDS
        self.clearing.append(job)

    def _clear(self) -> None:
        """Kill what ended jobs have left, and tell the end of those that left nothing.

        A process whose parent ends becomes a child of this one. So of each process that
        a job has left, an ancestor is among the children here: killing those brings
        their own children here next, until nothing comes.
        """
        busy = self._kill_strays({job.number for job in self.clearing})
        left = []
        for job in self.clearing:
            if job.number in busy:
                if now() < job.clear_by:
                    left.append(job)
                    continue
                pids = [pid for pid, jobs in self.strays.items() if job.number in jobs]
                self.news.append(("left", job.number, job.pid, pids))
            del self.jobs[job.number]
            self.news.append(("ended", job.number, job.status, job.reason))
        self.clearing = left
        if self.doubles:
            alive = {
                mark: jobs & self.jobs.keys() for mark, jobs in self.doubles.items()
            }
            self.doubles = {mark: jobs for mark, jobs in alive.items() if jobs}

    def _kill_strays(self, ended: set[int]) -> set[int]:
        """Kill the strays of ended jobs; the numbers of jobs that may have some.
        A stray that may belong to several goes when all of them have ended."""
        busy: set[int] = set()
        for pid in self._stray_pids():
            owners = self.strays.get(pid)
            if owners is None:
                if self._may_be_leader(pid):
                    number = self.unsure[pid][0]
                    possible = {number} | self.doubles.get(number, set())
                    busy |= possible if number else ended
                    continue
                number, _ = self.unsure.pop(pid)
                found = {number} | self.doubles.get(number, set())
                owners = frozenset(found if number else self.jobs)
                self.strays[pid] = owners
            if owners & self.jobs.keys() - ended:
                continue
            busy |= owners
            with Ignoring(ProcessLookupError, PermissionError):
                os.kill(pid, SIGKILL)
        return busy

    def _may_be_leader(self, pid: int) -> bool:
        """Whether a thread may have started this child and not yet said so."""
        if pid not in self.unsure:
            mark = read_mark(pid)
            is_ours = mark >> 32 == mark_of(self.identity, 0) >> 32
            number = mark & 0xFFFFFFFF if is_ours else 0
            self.unsure[pid] = (number, set(self.starting))
        number, starting = self.unsure[pid]
        starting &= self.starting
        return bool(starting)

    def _stray_pids(self) -> list[int]:
        """The children that are no leaders: mostly none, at the price of one read."""
        return [pid for pid in self._children_pids() if pid not in self.leaders]

    def _children_pids(self) -> list[int]:
        """The children of this thread: the orphans. Leaders are children of those that
        start them, and among these only if the kernel does not list them apart."""
        if self._children < 0:
            return children_by_scan()
        # Only this thread reaps, so the list cannot shift while it is read.
        text, at = b"", 0
        while part := os.pread(self._children, 65536, at):
            text += part
            at += len(part)
        return [int(pid) for pid in text.split()]

    def _look(self) -> None:
        """Stop what has lost its lease, kill what was to have ended by now."""
        moment = now()
        if moment < self._look_at:
            return
        self._look_at = moment + TICK_SECONDS
        for job in self.leaders.values():
            if self.lease_seconds and job.lease is not None:
                since = self.last_sign
                if job.is_repeatable:
                    since = min(since, job.renewed_at)
                if moment >= since + STOP_PART * self.lease_seconds:
                    job.stop(since + KILL_PART * self.lease_seconds, "lease_lost")
            if job.kill_at is not None and moment >= job.kill_at:
                job.signal(SIGKILL)
        self.starters.relieve(moment)

    def _orphan(self) -> None:
        """The worker has gone: nobody will hear how its jobs end."""
        self.is_orphaned = True
        self._poll.unregister(self.link.fileno())
        self.link.close()
        grace = ORPHAN_GRACE_SECONDS
        if self.lease_seconds:
            grace = min(grace, (KILL_PART - STOP_PART) * self.lease_seconds)
        for job in list(self.jobs.values()):
            job.stop(now() + grace)

    def _tell(self) -> None:
        if self.is_orphaned:
            self.news.clear()
        if not self.news:
            return
        while self.news:
            part = self.news[:500]
            try:
                self.link.send(marshal.dumps(part))
            except BlockingIOError:
                # A worker that does not read is frozen, and reads on when it is not.
                break
            except OSError:
                self._orphan()
                return
            del self.news[:500]
        if self._is_blocked != bool(self.news):
            self._is_blocked = bool(self.news)
            self._listen()


def _kill_the_rest(spawner: Spawner) -> None:
    """Without a namespace of our own nothing else ends what the jobs have left."""
    until = now() + CLEAR_SECONDS
    while spawner._children_pids() and now() < until:
        spawner._kill_strays(set())
        spawner._reap()
        time.sleep(0.002)


def main(arguments: Sequence[str]) -> None:
    """Serve the worker at the other ends of the sockets that are the files
    `arguments[:2]`: for signs, stops and news; and for orders to start."""
    link, orders = (socket(fileno=int(number)) for number in arguments[:2])
    identity, lease, folder = arguments[2:]
    for end in (link, orders):
        os.set_inheritable(end.fileno(), False)  # noqa: FBT003 - its only form
    link.setblocking(False)  # noqa: FBT003 - its only form
    hide_process()
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (SIGINT, SIGTERM, SIGHUP):
        signal(number, SIG_IGN)
    spawner = Spawner((link, orders), int(identity), float(lease) or None)
    spawner.starters.start()
    link.send(marshal.dumps([("hello", os.getpid() == 1)]))
    spawner.serve()
    _kill_the_rest(spawner)
    # The worker does this, if it lives.
    with Ignoring(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
