"""The documents name what exists, and all of it that they should."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
SETTINGS = ROOT / "scheduler_project" / "settings.py"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) +(.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/?)(?:::(\w+))?`")
ROW = re.compile(r"^\| `([A-Z_]+)` \| [^|]* \| ([^|]*) \|", re.MULTILINE)

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", document.read_text())


def anchors(document: Path) -> set[str]:
    """The headings as links name them."""
    headings = [title for _level, title in HEADING.findall(prose(document))]
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings
    }


def test_both_readmes_have_the_same_headings_blocks_and_promises() -> None:
    def shape(document: Path) -> tuple[list[str], list[str], list[str]]:
        text = document.read_text()
        levels = [level for level, _title in HEADING.findall(prose(document))]
        languages = [language for language, _code in FENCE.findall(text)]
        return levels, languages, re.findall(r"^\| (C\d+) \|", text, re.MULTILINE)

    assert shape(ENGLISH) == shape(CHINESE)


def test_both_readmes_say_the_same_commands() -> None:
    def commands(document: Path) -> list[str]:
        return [
            line.partition("  #")[0].rstrip()
            for language, code in FENCE.findall(document.read_text())
            if language in {"sh", "python", "toml"}
            for line in code.splitlines()
        ]

    assert commands(ENGLISH) == commands(CHINESE)


def environment() -> Iterator[tuple[str, ast.expr]]:
    """Each variable that the settings read, with its default."""
    for node in ast.walk(ast.parse(SETTINGS.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "env"
        ):
            (name,) = node.args
            defaults = [word.value for word in node.keywords if word.arg == "default"]
            yield str(ast.literal_eval(name)), defaults[0]


def test_every_variable_of_the_settings_is_documented_and_no_other() -> None:
    documented = [name for name, _default in ROW.findall(CONFIGURATION.read_text())]

    assert sorted(documented) == sorted({name for name, _default in environment()})


def test_the_documented_numbers_are_the_defaults() -> None:
    documented = dict(ROW.findall(CONFIGURATION.read_text()))
    for name, default in environment():
        if isinstance(default, ast.Constant | ast.BinOp):
            value = eval(ast.unparse(default))
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert documented[name].strip() == f"{value:.10g}", name


@each_document
def test_every_relative_link_resolves(document: Path) -> None:
    broken = []
    for target in map("".join, LINK.findall(document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@each_document
def test_every_file_and_test_that_is_named_exists(document: Path) -> None:
    tops = {path.name for path in ROOT.iterdir()} - {"var"}
    missing = []
    for name, test in PATH.findall(prose(document)):
        is_path = name.partition("/")[0] in tops and "/" in name
        is_file = re.search(r"\.(?:py|md|txt|toml|in|yaml)$", name)
        if not (is_path or is_file):
            continue
        path = _find(name)
        if path is None or (test and f"def {test}(" not in path.read_text()):
            missing.append(f"{name}::{test}" if test else name)
    assert missing == []


def _find(name: str) -> Path | None:
    """A file by its path, or by its path inside of a package."""
    folders = (ROOT, ROOT / "tasks_app", ROOT / "workers_app")
    return next((path for f in folders if (path := f / name).exists()), None)


@each_document
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    rules = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", rules, re.MULTILINE))
    code = [block for _language, block in FENCE.findall(document.read_text())]
    inline = re.findall(r"`([^`\n]+)`", prose(document))
    named = {
        target
        for text in (*code, *inline)
        for words in re.findall(r"(?:^|\s)make((?: +[a-z]+)+)", text, re.MULTILINE)
        for target in words.split()
    }
    assert named <= targets
