from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from executors import containment
from executors.base import Outcome, OutcomeStatus
from executors.isolation import RunAsRefused, user_of
from executors.payloads import PayloadInvalid, validate_payload
from tests.executors.harness import Output, eventually, in_loop, run, start


def needs(name: str) -> None:
    """Skip where the host lacks it, with the reason that a user would get."""
    if reason := in_loop(containment.missing(name)):
        pytest.skip(reason)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that every user may enter and write."""
    for path in (tmp_path, *tmp_path.parents[:3]):
        if path.stat().st_uid == os.geteuid() and path != Path("/tmp"):
            path.chmod(0o755)
    tmp_path.chmod(0o777)
    return tmp_path


def sandboxed(command: str, folder: Path, **more: Any) -> tuple[Outcome, str]:
    output = Output()
    payload = {"command": command, "cwd": str(folder), **more}
    outcome = run("shell", payload, output=output)
    return outcome, output.stdout.decode()


class TestUid:
    def test_the_job_is_the_user_and_cannot_become_root(self, folder: Path) -> None:
        needs("uid")
        outcome, text = sandboxed(
            "id -un; echo $HOME $USER; grep -E 'NoNewPrivs|CapBnd' /proc/self/status;"
            " echo seen > /dev/stdout; echo '{\"rows\": 3}' > $GNOMON_OUTPUT",
            folder, isolation="uid", run_as="nobody",
        )  # fmt: skip
        assert outcome.status is OutcomeStatus.SUCCEEDED, outcome
        lines = text.split("\n")
        assert lines[0] == "nobody"
        assert lines[1] == f"{pwd.getpwnam('nobody').pw_dir} nobody"
        assert lines[2].split() == ["CapBnd:", "0" * 16]
        assert lines[3].split() == ["NoNewPrivs:", "1"]
        assert lines[4] == "seen"
        assert outcome.result == {"rows": 3}

    def test_what_only_the_worker_may_read_stays_closed(self, folder: Path) -> None:
        needs("uid")
        secret = folder / "secret"
        secret.write_text("hunter2")
        secret.chmod(0o600)
        outcome, text = sandboxed(
            "cat secret; cat /proc/1/environ", folder, isolation="uid", run_as="nobody"
        )
        assert outcome.status is OutcomeStatus.FAILED
        assert text == ""

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("root", "root's rights"),
            ("no-such-user", "no user"),
            (pwd.getpwuid(os.geteuid()).pw_name, "name another user"),
        ],
    )
    def test_users_with_the_workers_rights_are_refused(
        self, name: str, words: str
    ) -> None:
        with pytest.raises(RunAsRefused, match=words):
            user_of(name)

    def test_a_refusal_fails_the_run_with_its_reason(self) -> None:
        needs("uid")
        payload = {"command": "true", "isolation": "uid", "run_as": "root"}
        outcome = run("shell", payload)
        assert (outcome.status, outcome.reason) == (
            OutcomeStatus.FAILED,
            "run_as_refused",
        )


class TestBwrap:
    def test_only_the_working_directory_and_tmp_can_be_written(
        self, folder: Path
    ) -> None:
        needs("bwrap")
        outcome, text = sandboxed(
            "touch made; touch /tmp/x; ls /tmp; touch /etc/x 2>/dev/null || echo no;"
            " echo 7 > $GNOMON_OUTPUT",
            folder, isolation="bwrap",
        )  # fmt: skip
        assert outcome.exit_code == 0
        assert (folder / "made").exists()
        assert "x" in text.split()
        assert text.endswith("no\n")
        assert not Path("/tmp/x").exists()
        assert outcome.result == 7

    def test_it_sees_no_process_but_its_own(self, folder: Path) -> None:
        needs("bwrap")
        _, text = sandboxed("echo /proc/[0-9]*/status", folder, isolation="bwrap")
        assert len(text.split()) <= 3

    def test_sigterm_reaches_the_job_with_its_grace(self, folder: Path) -> None:
        needs("bwrap")

        async def work() -> None:
            output = Output()
            script = "trap 'sleep 0.2; echo bye; exit' TERM; echo up;"
            payload = {
                "command": script + " while :; do sleep 0.02; done",
                "isolation": "bwrap",
                "cwd": str(folder),
            }
            task = start("shell", payload, output=output)
            await eventually(lambda: output.stdout)
            task.cancel()
            await task
            assert output.stdout == b"up\nbye\n"

        in_loop(work())

    def test_a_killed_job_leaves_nothing(self, folder: Path) -> None:
        needs("bwrap")

        async def work() -> None:
            output = Output()
            payload = {
                "command": "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do"
                " touch here; sleep 0.05; done' & while :; do sleep 1; done",
                "isolation": "bwrap",
                "cwd": str(folder),
            }
            task = start("shell", payload, output=output, grace_seconds=0.1)
            await eventually((folder / "here").exists)
            task.cancel()
            await task
            (folder / "here").unlink()
            await asyncio.sleep(0.3)  # six times its pause
            assert not (folder / "here").exists()

        in_loop(work())


class TestLimits:
    @pytest.mark.parametrize(
        ("limits", "command", "words"),
        [
            (
                {"file_bytes": 1024},
                "exec head -c 5000 /dev/zero > made",
                "SIGXFSZ",
            ),
            ({"cpu_seconds": 1}, "while :; do :; done", "SIGXCPU"),
            (
                {"memory_bytes": 50_000_000},
                "exec head -c 1000000000 /dev/zero | tail -n 1",
                "memory",
            ),
        ],
    )
    def test_a_job_over_its_limit_fails_and_says_why(
        self, limits: dict[str, int], command: str, words: str, folder: Path
    ) -> None:
        needs("limits")
        outcome, _ = sandboxed(command, folder, limits=limits)
        assert outcome.status is OutcomeStatus.FAILED
        assert words in outcome.error

    def test_processes_are_counted_by_user(self, folder: Path) -> None:
        needs("limits")
        needs("uid")
        outcome, _ = sandboxed(
            "for n in 1 2 3 4 5 6 7 8 9; do sleep 2 & done; wait", folder,
            limits={"processes": 4}, isolation="uid", run_as="nobody",
        )  # fmt: skip
        assert outcome.status is OutcomeStatus.FAILED
        assert "fork" in outcome.error

    def test_a_limit_that_would_bind_nobody_is_refused(self) -> None:
        needs("limits")
        if os.geteuid() != 0:
            pytest.skip("only root is not bound")
        outcome = run("shell", {"command": "true", "limits": {"processes": 9}})
        assert outcome.reason == "isolation_unavailable"
        assert "run_as" in outcome.error


def test_what_the_host_lacks_is_said_and_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(containment, "TOOLS_PATH", "/no/such")
    payload = {"command": f"touch {tmp_path}/ran", "isolation": "bwrap"}
    outcome = run("shell", payload)
    assert (outcome.status, outcome.reason) == (
        OutcomeStatus.FAILED,
        "isolation_unavailable",
    )
    assert "bubblewrap" in outcome.error
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("payload", "pointer", "words"),
    [
        ({"isolation": "uid"}, "/payload/run_as", "required"),
        ({"run_as": "nobody"}, "/payload", "without run_as"),
        ({"isolation": "chroot"}, "/payload/isolation", "one of"),
        ({"isolation": "uid", "run_as": "-x"}, "/payload/run_as", "user name"),
        ({"limits": {"cpu": 1}}, "/payload/limits/cpu", "allowed are"),
        ({"limits": {"cpu_seconds": 0}}, "/payload/limits/cpu_seconds", "at least 1"),
    ],
)
def test_a_wrong_payload_names_the_field(
    payload: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        validate_payload("shell", {"command": "x", **payload})
    problems = caught.value.problems
    assert pointer in [problem.pointer for problem in problems]
    assert words in " ".join(problem.message for problem in problems)
