"""Taking orders and starting their programs, from threads that do so side by side.

posix_spawn(3) is called by ctypes: CPython's own calls hold the interpreter until the
kernel has loaded the program, and on a busy host that waits for its turn.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource

# Without the modules around them, which would cost memory for no use.
from _signal import SIG_BLOCK, SIGCHLD, SIGTERM, pthread_sigmask  # type: ignore[import-not-found]  # no stub
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket
from _thread import allocate_lock, start_new_thread

from executors.marks import mark_of, read_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from executors.spawner import Spawner

MAX_MESSAGE_BYTES = 128 * 1024
MAX_FILES = 4
"""Files of one order: its own text if it is large, stdin, stdout and stderr."""
THREADS = 2
"""A start waits until the kernel has loaded the program, and on a busy host for its
turn; meanwhile another thread goes on. More of them cost more and start no more."""
MAX_THREADS = 16
HUNG_SECONDS = 1.0
"""When the starts of all threads have hung for so long, as they do in a directory whose
file server has gone, another thread takes over."""
MAX_KNOWN = 64
"""Actions that are kept."""
CLONE_FS = 0x200
POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)
POSIX_SPAWN_FLAGS = 0x04 | 0x08 | 0x80
"""SETSIGDEF, SETSIGMASK and SETSID of spawn.h, alike in glibc and musl. A session of
its own costs a job 45 us, for the kernel makes it a scheduling group (autogroup,
sched(7)); in one group for all, jobs got so little CPU that runs queued for slots."""

# Calls by `slow` let other threads run meanwhile, which os.posix_spawn does not; for
# short calls, handing the interpreter over and back would cost more than they do.
slow = ctypes.CDLL(None)
libc = ctypes.PyDLL(None)
_known: dict[tuple[Any, ...], _Actions] = {}


class Starters:
    """The threads that take orders and start their jobs."""

    def __init__(self, spawner: Spawner, orders: socket) -> None:
        self._spawner = spawner
        self._orders = orders
        self._threads = 0
        self._count = allocate_lock()
        self._were_starting: set[int] = set()
        self._relieve_at = 0.0

    def start(self) -> None:
        """Start as many as do for starts that do not hang."""
        for _ in range(THREADS):
            self._add()

    def are_alive(self) -> bool:
        return self._threads > 0

    def relieve(self, moment: float) -> None:
        """Add a thread if the starts of all have hung since the last time."""
        if moment < self._relieve_at:
            return
        self._relieve_at = moment + HUNG_SECONDS
        hung = self._were_starting & self._spawner.starting
        self._were_starting = set(self._spawner.starting)
        if self._threads <= len(hung) < MAX_THREADS:
            self._add()

    def _add(self) -> None:
        with self._count:
            self._threads += 1
        start_new_thread(self._work, ())

    def _work(self) -> None:
        try:
            start_jobs(self._spawner, self._orders)
        finally:
            with self._count:
                self._threads -= 1


def start_jobs(spawner: Spawner, orders: socket) -> None:
    """One thread's work: take an order, start its job, tell; until the worker goes."""
    libc.unshare(CLONE_FS)  # a umask of this thread's own
    attributes = [_attributes_of(shields_term=shields) for shields in (False, True)]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
    base = mark_of(spawner.identity, 0)
    for order, files in _orders(orders):
        number, lease, argv, environment, cwd, umask, has_stdin, shields = order
        spawner.begin(number, lease)
        if spawner.is_orphaned:  # asked after the job is there for `_orphan` to stop
            spawner.results.put((number, 0, ("program", 0, "the worker has gone"), 0))
            return
        limits = (base | number, hard)
        inputs = files if has_stdin else [null, *files]
        before = os.umask(umask) if umask >= 0 else 0
        try:
            resource.setrlimit(resource.RLIMIT_RTTIME, limits)
            pid = _start(argv, environment, cwd, inputs, attributes[shields])
        except (OSError, ValueError) as error:
            pid = 0
            result: tuple[Any, ...] = (number, 0, _failure_of(error, cwd), 0)
        else:
            result = (number, pid, None, _correct_mark(pid, limits))
        if umask >= 0:
            os.umask(before)
        for file in files:
            libc.close(file)
        spawner.results.put(result)
        if not pid or spawner.unsure:
            os.eventfd_write(spawner.waker, 1)


def _orders(link: socket) -> Iterator[tuple[Sequence[Any], list[int]]]:
    """The orders on the socket, each with its files, until its other end is closed."""
    buffer = memoryview(bytearray(MAX_MESSAGE_BYTES))
    buffers, space = [buffer], CMSG_SPACE(MAX_FILES * 4)
    while True:
        size, controls, _flags, _ = link.recvmsg_into(buffers, space, MSG_CMSG_CLOEXEC)
        if not size:
            return
        files: list[int] = []
        for level, kind, data in controls:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                files += memoryview(data).cast("i")
        order = marshal.loads(buffer[:size])  # noqa: S302 - see above
        if order is None:
            # It was too large for a message, and is in a file.
            text = files.pop(0)
            order = marshal.loads(os.pread(text, os.fstat(text).st_size, 0))  # noqa: S302
            os.close(text)
        yield order, files


def _attributes_of(*, shields_term: bool) -> Any:
    """A session of its own, and all signals as a program expects them, but SIGTERM
    ignored if it is shielded; for `_start`."""
    attributes = ctypes.create_string_buffer(1024)
    signals = ctypes.create_string_buffer(1024)
    libc.posix_spawnattr_init(attributes)
    libc.posix_spawnattr_setflags(attributes, ctypes.c_short(POSIX_SPAWN_FLAGS))
    libc.sigemptyset(signals)
    libc.posix_spawnattr_setsigmask(attributes, signals)
    # All: glibc asks the kernel about each that is not among them.
    libc.sigfillset(signals)
    if shields_term:
        libc.sigdelset(signals, SIGTERM)
    libc.posix_spawnattr_setsigdefault(attributes, signals)
    return attributes


def _start(
    argv: Sequence[bytes],
    environment: Sequence[bytes],
    cwd: bytes,
    inputs: Sequence[int],
    attributes: Any,
) -> int:
    """Start the program, looked for as execvp(3) does on the PATH in `environment`, and
    return its pid. `inputs` become its files 0, 1 and so on.

    Raises OSError as execve(2) does, and ValueError for what no program can be given.
    """
    if b"\0" in b"".join((*argv, *environment, cwd)):
        raise ValueError("there is a NUL character in an argument or a variable")
    # One array for both: to make one costs more than to fill it.
    count = len(argv) + 1
    strings = (ctypes.c_char_p * (count + len(environment) + 1))(
        *argv, None, *environment
    )
    values = ctypes.byref(strings, count * POINTER_BYTES)
    kept = _actions_of(cwd, *inputs)
    pid = ctypes.c_int()
    failure = errno.ENOENT
    program = argv[0]
    paths = (program,) if b"/" in program else _candidates(program, environment)
    for path in paths:
        failure = slow.posix_spawn(
            ctypes.byref(pid), path, kept.actions, attributes, strings, values
        )
        if failure not in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            break
    if failure:
        raise OSError(failure, os.strerror(failure))
    return pid.value


class _Actions:
    """What a job does before its program is loaded: takes its files, and goes to its
    directory."""

    def __init__(self, cwd: bytes, inputs: Sequence[int]) -> None:
        self.actions = ctypes.create_string_buffer(1024)
        libc.posix_spawn_file_actions_init(self.actions)
        for target, file in enumerate(inputs):
            libc.posix_spawn_file_actions_adddup2(self.actions, file, target)
        libc.posix_spawn_file_actions_addchdir_np(self.actions, cwd)

    def __del__(self) -> None:
        libc.posix_spawn_file_actions_destroy(self.actions)


def _actions_of(*key: Any) -> _Actions:
    """Those of a directory and the files that follow it. Kept, for files get the same
    few numbers again and again."""
    kept = _known.get(key)
    if kept is None:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        kept = _known[key] = _Actions(key[0], key[1:])
    return kept


def _candidates(program: bytes, environment: Sequence[bytes]) -> Iterator[bytes]:
    search = next((x[5:] for x in environment if x.startswith(b"PATH=")), b"")
    for folder in search.split(b":"):
        path = os.path.join(folder or b".", program)
        if os.access(path, os.F_OK):
            yield path


def _failure_of(error: OSError | ValueError, cwd: bytes) -> tuple[str, int, str]:
    """Where a start failed, with errno and words. The kernel does not tell whether it
    was the directory or the program."""
    try:
        os.close(os.open(cwd, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        if not os.access(cwd, os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as cwd_error:
        return "cwd", getattr(cwd_error, "errno", 0), str(cwd_error)
    return "program", getattr(error, "errno", 0), str(error)


def _correct_mark(pid: int, limits: tuple[int, int]) -> int:
    """Give the job its own mark if it got another thread's; the number of that one's
    job, or 0. Limits are the process's: another thread may set its own in between."""
    try:
        before = resource.prlimit(pid, resource.RLIMIT_RTTIME, limits)[0]
    except (PermissionError, ProcessLookupError):
        before = read_mark(pid)  # it has changed its user
    return 0 if before in {limits[0], 0} else before & 0xFFFFFFFF


def open_ends() -> int:
    """A file to be read from when a child has ended. The signal is for no handler: in
    the middle of a start its thread would be held up by it."""
    ends = {SIGCHLD}
    pthread_sigmask(SIG_BLOCK, ends)
    signals = ctypes.create_string_buffer(1024)
    libc.sigemptyset(signals)
    libc.sigaddset(signals, SIGCHLD)
    return int(libc.signalfd(-1, signals, os.O_NONBLOCK | os.O_CLOEXEC))
