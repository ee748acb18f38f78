from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executors import registry
from executors.registry import UnknownExecutor

PLUGIN = """
class Echo:
    name = "echo"
    schema = {"type": "object"}
    async def run(self, context): ...

class Impostor(Echo):
    name = "shell"

class BadSchema(Echo):
    name = "bad_schema"
    schema = {"type": "strnig"}

not_an_executor = 42
"""

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with the given entry points, for real, on sys.path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(entry_points: str) -> None:
        (tmp_path / "gnomon_test_plugin.py").write_text(PLUGIN)
        info = tmp_path / "gnomon_test_plugin-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: gnomon-test-plugin\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[gnomon.executors]\n{entry_points}\n")
        registry.reload()

    yield install
    sys.modules.pop("gnomon_test_plugin", None)
    monkeypatch.undo()
    registry.reload()


def test_the_built_in_executors_are_there() -> None:
    assert registry.names()[:3] == ("shell", "http", "python")
    assert all(registry.get(name).name == name for name in registry.names())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownExecutor, match=r"'sehll'.*shell, http, python") as error:
        registry.get("sehll")
    assert error.value.code == "unknown_executor"


def test_an_installed_package_adds_its_executor(install: Install) -> None:
    install("echo = gnomon_test_plugin:Echo")
    assert registry.get("echo").name == "echo"


@pytest.mark.parametrize(
    "entry_point",
    [
        "missing = no_such_module:Thing",
        "absent = gnomon_test_plugin:absent",
        "number = gnomon_test_plugin:not_an_executor",
        "other = gnomon_test_plugin:Impostor",
        "bad_schema = gnomon_test_plugin:BadSchema",
    ],
)
def test_a_broken_package_is_named_and_harms_no_other(
    entry_point: str, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(f"{entry_point}\necho = gnomon_test_plugin:Echo")
    assert registry.names() == ("shell", "http", "python", "echo")
    assert f"{entry_point} (gnomon-test-plugin)" in caplog.text


def test_a_package_cannot_replace_a_built_in_executor(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("shell = gnomon_test_plugin:Impostor")
    assert registry.names() == ("shell", "http", "python")
    assert type(registry.get("shell")).__module__ == "executors.shell"
    assert "gnomon_test_plugin:Impostor" in caplog.text
