from __future__ import annotations

import asyncio
import os
import resource
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from executors.base import Outcome, OutcomeStatus
from executors.payloads import PayloadInvalid, validate_payload
from tests.executors.harness import (
    Output,
    eventually,
    in_loop,
    is_alive,
    open_files,
    pids_in,
    run,
    shell,
    start,
)


def test_both_streams_arrive_apart_and_complete() -> None:
    outcome, output = shell("seq 2000; echo careful >&2")
    assert outcome == Outcome(OutcomeStatus.SUCCEEDED, exit_code=0)
    assert output.stdout == b"".join(b"%d\n" % n for n in range(1, 2001))
    assert output.stderr == b"careful\n"


def test_output_arrives_while_the_job_runs(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)

    async def work() -> None:
        output = Output()
        task = start("shell", {"command": f"echo first; cat {fifo}"}, output=output)
        await eventually(lambda: output.stdout == b"first\n")
        assert not task.done()
        fifo.write_text("second\n")
        await task
        assert output.stdout == b"first\nsecond\n"

    in_loop(work())


def test_an_exit_code_is_kept_with_the_last_line_of_stderr() -> None:
    outcome, _ = shell("echo warm-up >&2; printf 'disk \\033full\\n\\n' >&2; exit 3")
    assert (outcome.exit_code, outcome.reason) == (3, "exit_code")
    assert outcome.error == "exit code 3: disk full"


def test_a_long_last_line_is_capped() -> None:
    outcome, _ = shell("head -c 100000 /dev/zero | tr '\\0' e >&2; exit 1")
    assert len(outcome.error) == 500


def test_a_job_killed_by_a_signal_says_which() -> None:
    outcome, _ = shell("kill -9 $$")
    assert (outcome.exit_code, outcome.reason) == (-9, "signal")
    assert outcome.error == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        ({"command": "no-such-program"}, "command_not_found", "not found"),
        ({"command": "/etc/passwd"}, "not_executable", "ermission denied"),
        ({"argv": ["no-such-program"]}, "command_not_found", "no program"),
        ({"argv": ["/no/such/program"]}, "command_not_found", "no program"),
        ({"argv": ["/etc/passwd"]}, "permission_denied", "executable"),
        ({"argv": ["/etc"]}, "permission_denied", "executable"),
        ({"argv": ["{tmp}/orphan"]}, "interpreter_not_found", "first line"),
        ({"argv": ["{tmp}/no-shebang"]}, "not_executable", "interpreter"),
        ({"argv": ["true", *["x" * 100_000] * 30]}, "arguments_too_long", "stdin"),
        ({"command": "true", "cwd": "/no/such"}, "cwd_not_found", "directory"),
        ({"command": "true", "cwd": "/etc/passwd"}, "cwd_not_a_directory", "not a"),
    ],
)
def test_every_failing_start_has_its_own_reason(
    payload: dict[str, Any], reason: str, words: str, tmp_path: Path
) -> None:
    for name, text in (("orphan", "#!/no/such/sh\n"), ("no-shebang", "true\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    if "argv" in payload:
        payload = {"argv": [a.format(tmp=tmp_path) for a in payload["argv"]]}
    files = open_files()
    outcome = run("shell", payload)
    assert (outcome.status, outcome.reason) == (OutcomeStatus.FAILED, reason)
    assert words in outcome.error
    assert open_files() == files


def test_a_directory_without_permission_is_told_apart(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may enter every directory")
    tmp_path.chmod(0)
    outcome = run("shell", {"command": "true", "cwd": str(tmp_path)})
    assert outcome.reason == "cwd_permission_denied"


@pytest.mark.parametrize("left", range(1, 5))
def test_running_out_of_files_fails_the_start_and_leaves_nothing(left: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def work() -> Outcome:
        task = start("shell", {"command": "true", "stdin": "x"})
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + left, limits[1]))
        try:
            return await task
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    files = open_files()
    outcome = in_loop(work())
    assert (outcome.status, outcome.reason) == (OutcomeStatus.FAILED, "start_failed")
    assert open_files() == files


def test_the_job_sees_nothing_of_the_workers_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    output = Output()
    run(
        "shell",
        {"argv": ["env"], "env": {"REPORT": "1", "TZ": "UTC"}},
        output=output,
        environment={"GNOMON_RUN_ID": "42", "PARAM_DAY": "monday"},
    )
    seen = dict(line.split("=", 1) for line in output.stdout.decode().splitlines())
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR"}
    assert set(seen) - allowed == {
        "REPORT", "GNOMON_RUN_ID", "GNOMON_OUTPUT", "PARAM_DAY",
    }  # fmt: skip
    assert seen["TZ"] == "UTC"


def test_a_payload_cannot_forge_what_the_platform_tells() -> None:
    output = Output()
    payload = {"command": "echo $GNOMON_RUN_ID", "env": {"GNOMON_RUN_ID": "forged"}}
    run("shell", payload, output=output, environment={"GNOMON_RUN_ID": "42"})
    assert output.stdout == b"42\n"


def test_the_job_has_no_files_of_the_worker() -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003 - its only form
    try:
        _, output = shell("ls /proc/$$/fd")
    finally:
        os.close(reading)
        os.close(writing)
    assert output.stdout.split()[:3] == [b"0", b"1", b"2"]
    assert str(writing).encode() not in output.stdout.split()


def test_stdin_larger_than_a_pipe_is_read_whole_or_not_at_all() -> None:
    output = Output()
    text = "ü" * 300_000
    payload = {"command": "wc -c", "stdin": text}
    assert run("shell", payload, output=output).exit_code == 0
    assert output.stdout.strip() == b"600000"
    assert run("shell", {"command": "true", "stdin": text}).exit_code == 0


def test_without_stdin_the_job_reads_an_end_of_file() -> None:
    assert shell("cat")[0].exit_code == 0


def test_cwd_and_umask_are_in_force(tmp_path: Path) -> None:
    payload = {"command": "pwd; : > made", "cwd": str(tmp_path), "umask": "027"}
    output = Output()
    run("shell", payload, output=output)
    assert output.stdout.decode().strip() == str(tmp_path)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o640


def test_without_cwd_the_job_starts_at_home_as_in_cron(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shell("pwd")[1].stdout.decode().strip() == str(tmp_path)
    monkeypatch.setenv("HOME", "/nonexistent")
    assert shell("pwd")[1].stdout == b"/\n"


def test_sigterm_comes_first_and_the_job_can_clean_up() -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"

    async def work() -> None:
        output = Output()
        task = start("shell", {"command": script}, output=output)
        await eventually(lambda: output.stdout)
        task.cancel()
        outcome = await task
        assert outcome.status is OutcomeStatus.CANCELLED
        assert output.stdout == b"ready\nbye\n"

    in_loop(work())


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    async def work() -> None:
        output = Output()
        script = "trap '' TERM; echo $$; while :; do sleep 0.01; done"
        task = start("shell", {"command": script}, output=output, grace_seconds=0.3)
        pid = int(await eventually(lambda: output.stdout))
        began = time.monotonic()
        task.cancel()
        outcome = await task
        assert outcome.status is OutcomeStatus.CANCELLED
        assert 0.3 <= time.monotonic() - began < 2
        assert not is_alive(pid)

    in_loop(work())


def test_a_stopped_job_still_gets_its_sigterm() -> None:
    async def work() -> None:
        output = Output()
        script = "trap 'echo bye; exit' TERM; echo $$; kill -STOP $$; sleep 9"
        task = start("shell", {"command": script}, output=output)
        await eventually(lambda: output.stdout)
        task.cancel()
        await task
        assert output.stdout.endswith(b"bye\n")

    in_loop(work())


@pytest.mark.parametrize("ending", ["exit 0", "exit 5", "sleep 20", "kill -9 $$"])
def test_nothing_of_the_group_outlives_the_run(ending: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stubborn = f"(trap '' TERM HUP; sh -c 'echo $PPID >> {pids}; exec sleep 20'; :) &"
    script = f"{stubborn} {stubborn} while [ $(wc -l < {pids} || echo 0) -lt 2 ];"
    script += f" do sleep 0.01; done 2>/dev/null; {ending}"
    run("shell", {"command": script}, timeout_seconds=1, grace_seconds=0.1)
    left = pids_in(pids)
    assert len(left) == 2
    assert not [pid for pid in left if is_alive(pid)]


def test_a_background_child_that_holds_stdout_does_not_hold_the_run() -> None:
    began = time.monotonic()
    outcome, output = shell("sleep 20 & echo done")
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert output.stdout == b"done\n"
    assert time.monotonic() - began < 2


def test_even_one_that_left_the_group_and_floods_does_not(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began = time.monotonic()
    outcome, output = shell(
        f"setsid sh -c 'echo $$ > {pids}; exec yes' &"
        f" while ! [ -s {pids} ]; do sleep 0.01; done; echo done >&2"
    )
    assert not any(map(is_alive, pids_in(pids)))
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert output.stderr == b"done\n"
    assert time.monotonic() - began < 5


def test_a_flood_of_output_passes_in_bounded_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, output = shell("head -c 100000000 /dev/zero")
    assert outcome.status is OutcomeStatus.SUCCEEDED
    assert output.total_bytes == 100_000_000
    assert output.largest_chunk <= 65_536
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_flood_leaves_the_loop_to_others() -> None:
    async def work() -> float:
        task = start("shell", {"command": "exec yes"}, timeout_seconds=0.5)
        longest = 0.0
        while not task.done():
            began = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - began)
        assert (await task).status is OutcomeStatus.TIMED_OUT
        return longest

    assert in_loop(work()) < 0.3


def test_binary_output_arrives_byte_for_byte() -> None:
    everything = bytes(range(256))
    escaped = "".join(f"\\{byte:03o}" for byte in everything)
    outcome, output = shell(f"printf '{escaped}' | tee /dev/stderr; exit 1")
    assert output.stdout == output.stderr == everything
    assert outcome.error.isprintable()


def test_a_log_that_breaks_ends_the_job_and_fails_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pids = tmp_path / "pids"

    class FullDisk(Output):
        def write(self, stream: Any, chunk: bytes) -> None:
            raise OSError(f"no space left for {len(chunk)} bytes of {stream}")

    payload = {"command": f"echo $$ > {pids}; echo hello; sleep 20"}
    outcome = run("shell", payload, output=FullDisk())
    assert outcome.reason == "executor_error"
    assert "no space left" in outcome.error
    assert not any(map(is_alive, pids_in(pids)))
    assert "no space left" in caplog.text


def test_many_jobs_at_once_leave_no_file_open() -> None:
    async def work() -> None:
        tasks = [start("shell", {"command": "echo x"}) for _ in range(200)]
        outcomes = await asyncio.gather(*tasks)
        assert {outcome.exit_code for outcome in outcomes} == {0}

    files = open_files()
    in_loop(work())
    assert open_files() == files


def test_it_runs_on_a_loop_outside_the_main_thread() -> None:
    async def work() -> Outcome:
        return await asyncio.to_thread(lambda: shell("exit 4")[0])

    assert asyncio.run(work()).exit_code == 4


@pytest.mark.parametrize(
    ("payload", "pointer", "words"),
    [
        ({}, "/payload", "not both"),
        ({"command": "x", "argv": ["x"]}, "/payload", "not both"),
        ({"command": " \n"}, "/payload/command", "more than blanks"),
        ({"command": 3}, "/payload/command", "a string"),
        ({"argv": []}, "/payload/argv", "at least 1"),
        ({"argv": [""]}, "/payload/argv/0", "at least 1"),
        ({"argv": ["x", 1]}, "/payload/argv/1", "a string"),
        ({"command": "x", "cwd": "tmp"}, "/payload/cwd", "absolute path"),
        ({"command": "x", "umask": "22"}, "/payload/umask", "022"),
        ({"command": "x", "umask": "0999"}, "/payload/umask", "022"),
        ({"command": "x", "umask": "022\n"}, "/payload/umask", "022"),
    ],
)
def test_a_wrong_payload_names_the_field_and_what_is_allowed(
    payload: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        validate_payload("shell", payload)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
    assert words in caught.value.problems[0].message


@pytest.mark.parametrize(
    "name",
    [
        "GNOMON_RUN_ID", "PARAM_X", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT",
        "IFS", "BASH_ENV", "ENV", "PYTHONPATH", "PATH", "a=b", "1X", "", "A\n", "Ä",
    ],
)  # fmt: skip
def test_a_variable_that_changes_what_runs_is_refused(name: str) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        validate_payload("shell", {"command": "x", "env": {name: "x"}})
    assert caught.value.problems[0].path == ("env", name)


@pytest.mark.parametrize("name", ["A", "_x", "PATH_2", "ENVIRONMENT", "a1"])
def test_other_variables_are_accepted(name: str) -> None:
    validate_payload("shell", {"command": "x", "env": {name: ""}})
