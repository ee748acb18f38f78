from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from executors import containment, registry
from executors.supervisor import Supervisor
from tests.executors.harness import in_loop

ROOT = Path(__file__).parents[2]


def test_what_the_host_allows_is_told_as_json() -> None:
    found = in_loop(containment.host_containment())
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {
        "pid_namespace", "pid_namespace_by", "uid", "bwrap", "limits", "missing",
    }  # fmt: skip
    for name in ("pid_namespace", "uid", "bwrap", "limits"):
        assert found[name] is (name not in found["missing"])


def test_weaker_containment_is_told_with_its_reason() -> None:
    async def work() -> None:
        await Supervisor.start(ways=["none"])
        found = await containment.host_containment()
        assert found["pid_namespace"] is False
        assert "not if supervisor and worker die" in found["missing"]["pid_namespace"]

    in_loop(work())


def test_a_hidden_process_shows_its_environment_to_root_alone() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from executors.containment import hide_process\n"
        "hide_process(); print('hidden', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hidden\n"
        assert os.stat(f"/proc/{process.pid}/environ").st_uid == 0
        process.kill()


def test_closing_the_registry_ends_the_supervisor() -> None:
    async def work() -> None:
        started = await Supervisor.start()
        pid = started.pid
        await registry.aclose()
        assert not Path(f"/proc/{pid}").exists()
        assert not started.folder.exists()

    asyncio.run(work())
