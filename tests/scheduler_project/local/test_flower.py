from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler_project.local.flower import FlowerEnvironment
from scheduler_project.local.supervisor import Exit, Supervisor


@pytest.fixture
def environment(tmp_path: Path) -> FlowerEnvironment:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# nothing\n")
    return FlowerEnvironment(tmp_path / "venv", requirements)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(lambda _name, _line: None) as running:
        yield running


def test_it_is_installed_once(
    environment: FlowerEnvironment, supervisor: Supervisor
) -> None:
    assert not environment.is_installed

    supervisor.start(environment.install())

    assert supervisor.wait(60) == Exit("flower-install", 0)
    assert environment.is_installed


def test_other_pins_are_installed_anew(
    environment: FlowerEnvironment, supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(environment.install())
    supervisor.wait(60)
    changed = tmp_path / "changed.txt"
    changed.write_text("# other pins\n")

    assert not FlowerEnvironment(tmp_path / "venv", changed).is_installed


def test_a_failed_installation_is_not_essential(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("not a requirement\n")
    environment = FlowerEnvironment(tmp_path / "venv", requirements)

    supervisor.start(environment.install())

    assert supervisor.wait(60) == Exit("flower-install", 1)
    assert not environment.is_installed


def test_the_brokers_password_is_not_on_the_command_line(
    environment: FlowerEnvironment,
) -> None:
    flower = environment.flower("redis://:secret@127.0.0.1:1/0", 5555)

    assert not any("secret" in argument for argument in flower.command)
    assert "--address=127.0.0.1" in flower.command
