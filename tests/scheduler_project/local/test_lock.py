from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scheduler_project.local.lock import AlreadyRunningError, lock
from tests.scheduler_project.local.waiting import wait_until

HOLDER = """
import subprocess, sys
from pathlib import Path
from scheduler_project.local.lock import lock
with lock(Path(sys.argv[1])) as descriptor:
    leftover = subprocess.Popen(["sleep", "600"], pass_fds=[descriptor])
    print(leftover.pid, flush=True)
    leftover.wait()
"""


def test_a_directory_has_one_platform(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(AlreadyRunningError) as caught, lock(tmp_path):
        pass

    assert f"already runs on {tmp_path} (process {os.getpid()})" in str(caught.value)


def test_the_directory_is_free_afterwards(tmp_path: Path) -> None:
    with lock(tmp_path / "var"):
        pass
    with lock(tmp_path / "var"):
        pass


def test_the_servers_of_a_killed_platform_are_waited_for(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    leftover = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    holder.stdout.close()
    held = threading.Event()

    def take() -> None:
        with lock(tmp_path):
            held.set()

    taker = threading.Thread(target=take)
    taker.start()
    assert not held.wait(0.3)
    os.kill(leftover, 9)

    wait_until(held.is_set, "the lock is free")
    taker.join()
