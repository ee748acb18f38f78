"""What a job may reach and use: another user, a sandbox, limits.

Made of the host's own tools, each of which starts the next and the last the job:
prlimit and setpriv of util-linux, and bubblewrap. Only jobs that ask pay for them.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TOOLS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

LIMITS = {
    "memory_bytes": "--as",
    "file_bytes": "--fsize",
    "processes": "--nproc",
}
"""Fields of `limits` with the options of prlimit(1)."""


class RunAsRefused(Exception):
    """The payload's `run_as` is no user that jobs may be."""

    reason = "run_as_refused"


def user_of(name: str) -> pwd.struct_passwd:
    """The user to run as. Raises RunAsRefused for one that has the worker's rights."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise RunAsRefused(f"run_as: this worker's host has no user {name}") from None
    if user.pw_uid == 0 or user.pw_gid == 0:
        raise RunAsRefused(f"run_as: {name} has root's rights; name another user")
    if user.pw_uid == os.geteuid():
        raise RunAsRefused(
            f"run_as: the worker itself runs as {name}, whose jobs could read its"
            " secrets; name another user"
        )
    return user


def prlimit(argv: Sequence[str], limits: Mapping[str, int]) -> list[str]:
    """`argv` under `limits`, soft and hard: not even the job can raise them."""
    options = [
        # At the soft limit of CPU time comes SIGXCPU, which tells why; then SIGKILL.
        f"--cpu={value}:{value + 1}"
        if name == "cpu_seconds"
        else f"{LIMITS[name]}={value}"
        for name, value in limits.items()
    ]
    return ["prlimit", *options, "--", *argv]


def setpriv(argv: Sequence[str], uid: int, gid: int, *, name: str = "") -> list[str]:
    """`argv` as another user who cannot become root again, not even by sudo."""
    return [
        "setpriv", f"--reuid={name or uid}", f"--regid={gid}",
        "--init-groups" if name else "--clear-groups", "--inh-caps=-all",
        "--bounding-set=-all", "--no-new-privs", "--", *argv,
    ]  # fmt: skip


def bwrap(argv: Sequence[str], *, cwd: str, writable: Iterable[str]) -> list[str]:
    """`argv` in a sandbox that sees all files, may write only `writable` and /tmp, has
    an empty /tmp of its own, and sees no process but its own."""
    binds = [
        part for path in writable if path != "/" for part in ("--bind", path, path)
    ]
    return [
        "bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc",
        "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
        "--tmpfs", "/tmp", *binds, "--chdir", cwd, "--",  # noqa: S108 - its own
        # bwrap ignores SIGTERM: its end would be the job's, without the grace.
        "env", "--default-signal=TERM", *argv,
    ]  # fmt: skip


def tools_of(payload: Mapping[str, Any]) -> list[str]:
    """What the host must allow for this payload: names for `containment.missing`."""
    isolation = payload.get("isolation", "none")
    needed = []
    if payload.get("limits"):
        needed.append("limits")
    if "run_as" in payload:
        needed.append("uid")
    if isolation == "bwrap":
        needed.append("bwrap")
    return needed
