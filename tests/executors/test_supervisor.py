"""The job supervisor: whatever ends, nothing that a job started outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from executors import marks, registry, supervisor
from executors.base import Outcome, OutcomeStatus, RunContext
from executors.execution import execute
from executors.supervisor import JobLease, Supervisor
from tests.executors.harness import (
    Output,
    eventually,
    in_loop,
    is_alive,
    open_files,
    pids_in,
    start,
)

ROOT = Path(__file__).parents[2]

CONFINEMENTS = [
    pytest.param(True, id="namespace"),
    pytest.param(False, id="no namespace"),
]

WAYS = {True: ["root", "user", "none"], False: ["none"]}

Work = Callable[[Supervisor], Coroutine[Any, Any, None]]


def supervised(work: Work, *, pid_namespace: bool, lease: float | None = None) -> None:
    async def wrapped() -> None:
        started = await Supervisor.start(lease_seconds=lease, ways=WAYS[pid_namespace])
        if pid_namespace and started.confinement == "none":
            await started.aclose()
            pytest.skip("this host allows no PID namespace")
        await work(started)

    in_loop(wrapped())


def leased(
    command: str, key: str, *, is_repeatable: bool, grace_seconds: float = 5
) -> asyncio.Task[Outcome]:
    context = RunContext(
        payload={"command": command},
        environment={},
        write=Output().write,
        grace_seconds=grace_seconds,
        lease=JobLease(key, is_repeatable=is_repeatable),
    )
    return asyncio.create_task(execute(registry.get("shell"), context, 30))


def daemon(pids: Path, how: str = "") -> str:
    """A command that leaves a daemon: orphaned, in a session of its own, deaf."""
    body = f'trap "" TERM HUP; echo $$ >> {pids}; while :; do sleep 0.05; done'
    return (
        f"({how} setsid sh -c '{body}' </dev/null >/dev/null 2>&1 &) &"
        f" while ! [ -s {pids} ]; do sleep 0.01; done;"
    )


async def none_alive(pids: Path) -> None:
    assert pids_in(pids)
    await eventually(lambda: not any(map(is_alive, pids_in(pids))))


@pytest.mark.parametrize("pid_namespace", CONFINEMENTS)
@pytest.mark.parametrize("how", ["", "env -i"])
@pytest.mark.parametrize("ending", ["exit 0", "exit 3", "kill -9 $$", "sleep 20"])
def test_a_daemon_ends_with_its_job(
    ending: str, how: str, tmp_path: Path, *, pid_namespace: bool
) -> None:
    pids = tmp_path / "pids"

    async def work(_: Supervisor) -> None:
        payload = {"command": f"{daemon(pids, how)} {ending}"}
        await start("shell", payload, timeout_seconds=2, grace_seconds=0.1)
        assert len(pids_in(pids)) == 1
        assert not any(map(is_alive, pids_in(pids)))

    supervised(work, pid_namespace=pid_namespace)


def test_a_daemon_of_another_job_goes_on(tmp_path: Path) -> None:
    mine, others = tmp_path / "mine", tmp_path / "others"

    async def work(_: Supervisor) -> None:
        lasting = start("shell", {"command": f"{daemon(others)} sleep 20"})
        await eventually(lambda: pids_in(others))
        await start("shell", {"command": daemon(mine)})
        await none_alive(mine)
        assert all(map(is_alive, pids_in(others)))
        lasting.cancel()
        await lasting
        assert not any(map(is_alive, pids_in(others)))

    supervised(work, pid_namespace=True)


def test_one_that_hides_its_mark_ends_with_the_jobs_of_its_time(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hide = (
        "import resource, os, sys;"
        "resource.setrlimit(resource.RLIMIT_RTTIME, (99, resource.RLIM_INFINITY));"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )

    async def work(_: Supervisor) -> None:
        other = start("shell", {"command": "sleep 20"})
        how = f"{sys.executable} -I -S -c '{hide}'".replace("'", '"')
        await start("shell", {"command": daemon(pids, how)})
        other.cancel()
        await other
        await start("shell", {"command": "true"})
        await none_alive(pids)

    supervised(work, pid_namespace=True)


@pytest.mark.parametrize("pid_namespace", CONFINEMENTS)
def test_a_killed_supervisor_takes_its_jobs_along_and_gets_a_successor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, pid_namespace: bool
) -> None:
    pids = tmp_path / "pids"

    async def work(started: Supervisor) -> None:
        task = start("shell", {"command": f"{daemon(pids)} sleep 20"})
        await eventually(lambda: pids_in(pids))
        assert started.pid is not None
        os.kill(started.pid, signal.SIGKILL)
        outcome = await task
        assert (outcome.status, outcome.reason) == (
            OutcomeStatus.FAILED,
            "supervisor_lost",
        )
        await none_alive(pids)
        assert (await start("shell", {"command": "exit 4"})).exit_code == 4

    supervised(work, pid_namespace=pid_namespace)
    assert "supervisor.lost" in caplog.text


WORKER = """
import asyncio, sys
sys.path.insert(0, {root!r})
from executors import registry
from executors.base import RunContext
from executors.supervisor import JobLease, Supervisor

async def main():
    supervisor = await Supervisor.start(lease_seconds=2, ways={namespace})
    context = RunContext(
        payload={{"command": {command!r}}}, environment={{}}, write=print,
        lease=JobLease("run", is_repeatable=False),
    )
    task = asyncio.create_task(registry.get("shell").run(context))
    while not task.done():
        supervisor.alive()
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


@pytest.mark.parametrize("pid_namespace", CONFINEMENTS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_jobs_end_with_a_worker_that_was_killed_or_froze(
    number: signal.Signals, tmp_path: Path, *, pid_namespace: bool
) -> None:
    pids = tmp_path / "pids"
    program = WORKER.format(
        root=str(ROOT),
        namespace=WAYS[pid_namespace],
        command=f"{daemon(pids)} sleep 60",
    )
    worker = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        asyncio.run(eventually(lambda: pids_in(pids)))
        assert all(map(is_alive_anywhere, pids_in(pids)))
        worker.send_signal(number)
        asyncio.run(eventually(lambda: not any(map(is_alive_anywhere, pids_in(pids)))))
    finally:
        worker.kill()
        worker.wait()


BUSY_WORKER = """
import asyncio, os, signal, sys
sys.path.insert(0, {root!r})
from executors.processes import Command, run_process
from executors.supervisor import Supervisor

async def main():
    supervisor = await Supervisor.start(lease_seconds=60, ways={namespace})
    print(supervisor.pid, flush=True)
    command = Command(
        argv=["sh", "-c", "sleep 60 # {mark}"], cwd="/",
        environment={{"PATH": os.environ["PATH"]}},
    )
    for _ in range(100):
        asyncio.create_task(run_process(command, write=print, grace_seconds=1))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("pid_namespace", CONFINEMENTS)
def test_orders_of_a_worker_that_died_leave_nothing_behind(
    tmp_path: Path, *, pid_namespace: bool
) -> None:
    program = BUSY_WORKER.format(
        root=str(ROOT), namespace=WAYS[pid_namespace], mark=tmp_path
    )
    died = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL
    end = Path("/proc", died.stdout.strip())
    asyncio.run(eventually(lambda: not end.exists()))
    asyncio.run(eventually(lambda: not command_lines_with(str(tmp_path))))


def command_lines_with(words: str) -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines.append(path.read_text())
    return [line for line in lines if words in line]


def test_jobs_cancelled_before_they_began_end_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(_: Supervisor) -> None:
        tasks = [start("shell", {"command": "sleep 20"}) for _ in range(100)]
        for _turn in range(3):
            await asyncio.sleep(0)  # their orders are sent, and hardly read
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks)
        assert {o.status for o in outcomes} == {OutcomeStatus.CANCELLED}

    supervised(work, pid_namespace=True)
    assert "supervisor.lost" not in caplog.text


def is_alive_anywhere(pid: int) -> bool:
    """Whether a process of that number in any namespace is such a daemon."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "status").read_text()
            line = (entry / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        numbers = next(x for x in status.splitlines() if x.startswith("NSpid:"))
        if numbers.split()[-1] == str(pid) and "echo $$ >>" in line:
            return "\nState:\tZ" not in status
    return False


def test_without_renewals_only_repeatable_jobs_are_stopped() -> None:
    async def work(started: Supervisor) -> None:
        began = time.monotonic()
        deaf = "trap '' TERM; while :; do sleep 0.05; done"
        again = leased(deaf, "again", is_repeatable=True)
        once = leased("sleep 2.5; exit 5", "once", is_repeatable=False)
        kept = leased("sleep 2.5; exit 6", "kept", is_repeatable=True)
        while not once.done():
            started.alive()
            started.renew(["kept", "unknown"])
            if again.done() and began:
                assert 1.0 < time.monotonic() - began < 3
                began = 0
            await asyncio.sleep(0.05)
        assert (await again).status is OutcomeStatus.FAILED
        assert (await again).reason == "lease_lost"
        assert ((await once).exit_code, (await kept).exit_code) == (5, 6)

    supervised(work, pid_namespace=True, lease=2)


def test_a_late_renewal_counts_from_when_it_began() -> None:
    async def work(started: Supervisor) -> None:
        task = leased("sleep 20", "run", is_repeatable=True, grace_seconds=0)
        while not task.done():
            started.alive()
            started.renew(["run"], at=supervisor.clock() - 100)
            await asyncio.sleep(0.05)
        assert (await task).reason == "lease_lost"

    supervised(work, pid_namespace=True, lease=1)


def test_five_hundred_jobs_at_a_time_keep_their_exit_codes() -> None:
    async def work(_: Supervisor) -> None:
        tasks = [
            start("shell", {"command": f"read x; exit {n % 256}", "stdin": "x\n"})
            for n in range(500)
        ]
        outcomes = await asyncio.gather(*tasks)
        assert [o.exit_code for o in outcomes] == [n % 256 for n in range(500)]

    files = open_files()
    supervised(work, pid_namespace=True)
    assert open_files() == files


def test_starts_that_hang_do_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a directory of a file server that has gone."""
    gate = tmp_path / "gate"
    program = supervisor.PROGRAM.replace("main(", HANGING.format(gate=str(gate)))
    monkeypatch.setattr(supervisor, "PROGRAM", program)

    async def work(_: Supervisor) -> None:
        hung = [start("shell", {"argv": ["hang", "it"]}) for _ in range(4)]
        try:
            assert (await start("shell", {"command": "exit 3"})).exit_code == 3
            assert not any(task.done() for task in hung)
        finally:
            gate.touch()
        assert {(await task).reason for task in hung} == {"command_not_found"}

    supervised(work, pid_namespace=True)


HANGING = """
import os, time
from executors import launch
launch.HUNG_SECONDS = 0.2
start = launch._start
def hang(argv, *rest):
    while argv[0] == b"hang" and not os.path.exists({gate!r}):
        time.sleep(0.01)
    return start(argv, *rest)
launch._start = hang
main("""


def test_the_supervisor_keeps_no_file_of_its_jobs() -> None:
    async def work(started: Supervisor) -> None:
        def files() -> int:
            assert started.pid is not None
            return len(os.listdir(f"/proc/{started.pid}/fd"))

        await start("shell", {"command": "true"})
        before = files()
        tasks = [start("shell", {"command": "true", "stdin": "x"}) for _ in range(99)]
        tasks += [start("shell", {"argv": ["/no/such"]}) for _ in range(9)]
        await asyncio.gather(*tasks)
        await eventually(lambda: files() == before)

    supervised(work, pid_namespace=False)


def test_a_close_before_an_order_is_sent_leaves_no_file_open(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    async def work(started: Supervisor) -> None:
        before = open_files()
        task = start("shell", {"command": f"touch {begun}"})
        while open_files() <= before:  # until its pipes are there
            await asyncio.sleep(0)
        await started.aclose()
        assert (await task).reason == "supervisor_lost"
        assert open_files() < before  # its sockets have gone, too
        assert not begun.exists()

    supervised(work, pid_namespace=False)


def test_the_supervisor_loads_little() -> None:
    """Each of these modules would take a part of its memory, for every worker."""
    loaded = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c"),
            f"import sys; sys.path.append({str(supervisor.ROOT)!r})\n"
            "import executors.spawner; print(*sys.modules)",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    unwanted = {"collections", "contextlib", "enum", "functools", "re", "threading"}
    assert "executors.spawner" in loaded
    assert unwanted.isdisjoint(loaded)


def test_a_job_starts_with_default_signals_and_no_mask() -> None:
    async def work(_: Supervisor) -> None:
        output = Output()
        await start(
            "shell", {"argv": ["grep", "^Sig", "/proc/self/status"]}, output=output
        )
        masks = dict(line.split(":") for line in output.stdout.decode().splitlines())
        internal = 0b11 << 31  # glibc's own two, which posix_spawn ignores
        assert int(masks["SigIgn"], 16) & ~internal == 0
        assert int(masks["SigBlk"], 16) == 0

    supervised(work, pid_namespace=True)


def test_a_job_sees_neither_the_worker_nor_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")

    async def work(_: Supervisor) -> None:
        output = Output()
        await start(
            "shell", {"command": "cat /proc/[0-9]*/environ; true"}, output=output
        )
        assert b"GNOMON_OUTPUT" in output.stdout
        assert b"hunter2" not in output.stdout

    supervised(work, pid_namespace=True)


def test_what_a_job_mounts_is_not_held_back_from_the_host() -> None:
    """Only /proc is the supervisor's own."""

    async def work(_: Supervisor) -> None:
        output = Output()
        await start("shell", {"argv": ["cat", "/proc/self/mountinfo"]}, output=output)
        ours = _propagation(Path("/proc/self/mountinfo").read_text())
        theirs = _propagation(output.stdout.decode())
        assert ours["/"] == theirs["/"]

    supervised(work, pid_namespace=True)


def _propagation(mountinfo: str) -> dict[str, str]:
    fields = [line.split() for line in mountinfo.splitlines()]
    return {f[4]: f[6].partition(":")[0] for f in fields}


def test_without_unshare_containment_is_weaker_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        shutil, "which", lambda name, **_: "/bin/false" if name == "unshare" else None
    )

    async def work() -> None:
        started = await Supervisor.start()
        assert started.confinement == "none"
        assert (await start("shell", {"command": "exit 3"})).exit_code == 3

    in_loop(work())
    assert "no_pid_namespace" in caplog.text


def test_an_ordinary_user_gets_a_namespace_too_or_is_told(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become an ordinary user")
    program = (
        f"import asyncio, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from executors.supervisor import Supervisor\n"
        "async def main():\n"
        "    s = await Supervisor.start()\n"
        "    print(s.confinement); await s.aclose()\n"
        "asyncio.run(main())"
    )
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        pytest.skip("no Python that an ordinary user may run")
    found = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
         python, "-c", program],
        check=False, capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert found.stdout.strip() in {"user", "none"}, found


def test_a_mark_is_read_back() -> None:
    assert marks.read_mark(os.getpid()) == 0
    assert marks.read_mark(2**22 + 1) == 0
