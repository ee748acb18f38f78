"""A worker's open files: as many as its slots need, and a word where they are not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ASK = """
import json, resource, sys
soft, hard, slots = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from workers_app.files import files_allow
print(json.dumps([files_allow(slots), *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "slots", "expected"),
    [
        (1024, 4096, 64, [64, 1024, 4096]),  # jobs inherit it: left as it is
        (256, 4096, 1000, [1000, 3100, 4096]),
        (256, 1000, 1000, [300, 1000, 1000]),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_the_slots_need(
    soft: int, hard: int, slots: int, expected: list[int]
) -> None:
    command = [sys.executable, "-c", ASK, str(soft), str(hard), str(slots)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    said, _, answer = done.stdout.decode().rstrip().rpartition("\n")
    assert json.loads(answer) == expected
    assert ("worker.too_few_files" in said) is (expected[0] < slots)
