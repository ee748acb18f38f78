"""What this host allows for keeping jobs apart, found by trying.

Each is tried where jobs run, as a job: inside the supervisor's namespace, with the
worker's own rights.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

from executors import supervisor
from executors.isolation import TOOLS_PATH, bwrap, prlimit, setpriv
from executors.processes import Command, StartFailed, run_process
from executors.spawner import hide_process
from executors.text import one_line

__all__ = ["hide_process", "host_containment", "missing"]

NOBODY = 65534
PACKAGES = {"bwrap": "bubblewrap", "setpriv": "util-linux", "prlimit": "util-linux"}


async def host_containment() -> dict[str, Any]:
    """What the worker's host allows, as JSON values for the worker's row.

    `pid_namespace` says whether jobs live in one, and so cannot outlive the worker;
    `pid_namespace_by` is "root", "user" (a user namespace: no sudo in jobs) or "none".
    `uid`, `bwrap` and `limits` say whether tasks may ask for them; `missing` has the
    reason for each that is false. Starts the loop's supervisor if need be.
    """
    owner = await supervisor.current()
    await owner.connected()
    reasons = {name: await missing(name) for name in ("uid", "bwrap", "limits")}
    if owner.confinement == "none":
        reasons["pid_namespace"] = (
            "this host allows no PID namespace here: what a job leaves behind is found"
            " and killed while the worker lives, and not if supervisor and worker die"
        )
    return {
        "pid_namespace": owner.confinement != "none",
        "pid_namespace_by": owner.confinement,
        **{name: not reasons[name] for name in ("uid", "bwrap", "limits")},
        "missing": {name: reason for name, reason in reasons.items() if reason},
    }


async def missing(name: str) -> str:
    """What the host lacks for `uid`, `bwrap` or `limits`; "" if it lacks nothing.

    Tried once per supervisor.
    """
    found = (await supervisor.current()).missing
    if name not in found:
        found[name] = await TRIALS[name]()
    return found[name]


async def _try_uid() -> str:
    if os.geteuid() != 0:
        return "the worker does not run as root"
    return await _try("setpriv", setpriv(["true"], NOBODY, NOBODY))


async def _try_bwrap() -> str:
    return await _try("bwrap", bwrap(["true"], cwd="/", writable=()))


async def _try_limits() -> str:
    return await _try("prlimit", prlimit(["true"], {"cpu_seconds": 60}))


TRIALS = {"uid": _try_uid, "bwrap": _try_bwrap, "limits": _try_limits}


async def _try(tool: str, argv: Sequence[str]) -> str:
    if shutil.which(tool, path=TOOLS_PATH) is None:
        return f"{tool} is not installed (package {PACKAGES[tool]})"
    output = bytearray()
    try:
        code = await run_process(
            Command(argv=argv, environment={"PATH": TOOLS_PATH}, cwd="/"),
            write=lambda _, chunk: output.extend(chunk),
            grace_seconds=0,
        )
    except StartFailed as error:
        return str(error)
    if code == 0:
        return ""
    words = one_line(output.decode("utf-8", "replace"), max_characters=200)
    return words or f"{tool} ends with exit code {code}"
