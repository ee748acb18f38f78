"""Modules that run when something in them is first asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Barrier
from types import ModuleType
from typing import Any

import pytest

from scheduler_project.late import Places, import_late

PLAIN = """
class Thing:
    numbers = [number**2 for number in range(10_000)]

def make():
    return Thing()
"""
HOUSE = """
from house.door import Door, open_door
runs = []
runs.append(1)
"""
DOOR = """
class Door:
    wide = True

def open_door():
    return Door()
"""
FILES = {
    "plain.py": PLAIN,
    "house/__init__.py": HOUSE,
    "house/door.py": DOOR,
    "house/cellar.py": "import house\nDEPTH = 3\n",
    "user.py": "from house import Door, open_door\nimport plain\n",
}
PLACES: dict[str, Places] = {
    "house": {"Door": None, "open_door": "door", "size": lambda: 7},
    "plain": {},
}


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    import_late(PLACES)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns also while a module runs
    yield
    sys.setswitchinterval(interval)
    for name in [*sys.modules]:
        if name.partition(".")[0] in {"house", "plain", "user"}:
            del sys.modules[name]


def has_run(module: ModuleType, name: str) -> bool:
    return name in vars(module)


@pytest.mark.usefixtures("late")
class TestLateModule:
    def test_it_runs_when_a_name_is_asked_for_and_is_the_same_module(self) -> None:
        plain: Any = import_module("plain")
        assert not has_run(plain, "Thing")
        assert isinstance(plain.make(), plain.Thing)
        assert import_module("plain") is plain

    def test_it_has_no_name_that_it_would_not_have(self) -> None:
        with pytest.raises(AttributeError, match="'plain' has no 'nothing'"):
            import_module("plain").nothing  # noqa: B018
        with pytest.raises(ImportError):
            exec("from plain import nothing")

    def test_threads_that_ask_at_once_get_one_and_the_same(self) -> None:
        plain: Any = import_module("plain")
        together = Barrier(8)

        def ask(_number: int) -> Any:
            together.wait()
            return plain.Thing

        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(ask, range(8)))) == 1


@pytest.mark.usefixtures("late")
class TestLatePackage:
    def test_what_a_library_takes_from_it_does_not_run_it(self) -> None:
        user: Any = import_module("user")
        house: Any = import_module("house")
        assert house.size == 7
        assert not has_run(house, "runs")
        assert user.open_door is import_module("house.door").open_door

    def test_a_stand_in_is_as_good_as_what_it_stands_for(self) -> None:
        user: Any = import_module("user")
        door: Any = import_module("house.door")
        assert type(user.Door()) is door.Door
        assert user.Door.wide
        assert isinstance(door.open_door(), user.Door)

        class Gate(user.Door):  # type: ignore[misc]  # of any type
            pass

        assert issubclass(Gate, door.Door)

    def test_a_module_within_is_loaded_once_whichever_comes_first(self) -> None:
        door: Any = import_module("house.door")
        house: Any = import_module("house")
        assert house.runs == [1]
        assert house.Door is door.Door
        assert house.door is door

    def test_a_module_within_is_found_by_its_name(self) -> None:
        house: Any = import_module("house")
        assert house.cellar.DEPTH == 3
        assert not has_run(house, "runs")
