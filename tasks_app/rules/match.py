"""Which workers a run may go to, by their tags: `gpu and not (eu-west or spot)`."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from types import UnionType

MAX_LENGTH = 500
MAX_DEPTH = 20
WORKER_PREFIX = "worker:"
"""No tag begins so: as a lane, `worker:a` means the worker called a."""

KEYWORDS = frozenset({"and", "or", "not"})

_TAG = r"[A-Za-z0-9][A-Za-z0-9_.:=/-]*"
_WORD = re.compile(rf"[()]|{_TAG}|\S", re.ASCII)


class MatchInvalid(ValueError):
    """The expression cannot be read.

    `code` is stable, `message` tells a person where and what to write instead;
    `position` is that character, counted from 1.
    """

    def __init__(self, code: str, message: str, position: int = 1) -> None:
        super().__init__(code, message, position)
        self.code = code
        self.message = message
        self.position = position

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Tag:
    name: str


@dataclass(frozen=True)
class Not:
    part: Node


@dataclass(frozen=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Node, ...]


Node = Tag | Not | And | Or


@dataclass(frozen=True)
class Match:
    """An accepted expression.

    `canonical` is its one text: spellings that differ in blanks, in needless
    parentheses or in the case of and, or, not have the same. It parses to itself.
    """

    canonical: str
    root: Node = field(repr=False, compare=False)

    def matches(self, tags: Collection[str]) -> bool:
        """Whether a worker with these tags will do; tags differ in case."""
        return _rest(self.root, tags, wanted=True) is None

    def missing(self, tags: Collection[str]) -> str:
        """What these tags lack, as in "needs gpu and not spot"; "" if they match.

        Names only the parts that do not hold: not what is there already.
        """
        rest = _rest(self.root, tags, wanted=True)
        return "" if rest is None else f"needs {_text(rest)}"


@functools.lru_cache(maxsize=1024)
def parse_match(text: str) -> Match:
    """Read tags joined by and, or, not and parentheses; not binds first, or last.

    A tag is letters, digits and `_ . : = - /`, and begins with a letter or digit:
    `gpu`, `zone=eu-1`, `os:linux`. Raises MatchInvalid.
    """
    if len(text) > MAX_LENGTH:
        raise MatchInvalid(
            "too_long",
            f"a match has at most {MAX_LENGTH} characters, here are {len(text)}",
            MAX_LENGTH + 1,
        )
    root = _Parser(text).parse()
    canonical = _text(root)
    if len(canonical) > MAX_LENGTH:  # `a and(b)` grows by a blank
        raise MatchInvalid(
            "too_long",
            f"with single blanks the match has {len(canonical)} characters;"
            f" at most {MAX_LENGTH}",
        )
    return Match(canonical, root)


def is_tag(text: str) -> bool:
    """Whether a worker may carry this tag and a match may ask for it."""
    return (
        len(text) <= MAX_LENGTH
        and re.fullmatch(_TAG, text) is not None
        and text.lower() not in KEYWORDS
        and not text.startswith(WORKER_PREFIX)
    )


class _Parser:
    """Recursive descent; each method reads one rule of the grammar:

    any = all ("or" all)*;  all = unit ("and" unit)*;  unit = "not" unit | "(" any ")"
    | tag
    """

    def __init__(self, text: str) -> None:
        self.words = [(found[0], found.start() + 1) for found in _WORD.finditer(text)]
        self.end = len(text) + 1
        self.index = 0

    def parse(self) -> Node:
        if not self.words:
            raise MatchInvalid("empty", "the match is empty; write a tag, such as gpu")
        root = self._any(depth=0)
        word, position = self._peek()
        if word == ")":
            raise MatchInvalid(
                "unbalanced", f"the ) at character {position} has no (", position
            )
        if word:
            self._refuse_character(word, position)
            raise MatchInvalid(
                "no_operator",
                f"write and or or before {word[:40]!r} at character {position}",
                position,
            )
        return root

    def _any(self, depth: int) -> Node:
        parts = [self._all(depth)]
        while self._take("or"):
            parts.append(self._all(depth))
        return _joined(Or, parts)

    def _all(self, depth: int) -> Node:
        parts = [self._unit(depth)]
        while self._take("and"):
            parts.append(self._unit(depth))
        return _joined(And, parts)

    def _unit(self, depth: int) -> Node:
        word, position = self._peek()
        if depth > MAX_DEPTH:
            raise MatchInvalid(
                "too_deep",
                f"at most {MAX_DEPTH} levels of ( and not; character {position} is"
                " deeper",
                position,
            )
        if self._take("not"):
            return Not(self._unit(depth + 1))
        if self._take("("):
            return self._group(position, depth + 1)
        return self._tag(word, position)

    def _group(self, opened: int, depth: int) -> Node:
        part = self._any(depth)
        word, position = self._peek()
        if not self._take(")"):
            if word:
                self._refuse_character(word, position)
            raise MatchInvalid(
                "unbalanced",
                f"the ( at character {opened} is not closed"
                + (f" before {word[:40]!r} at character {position}" if word else ""),
                position if word else opened,
            )
        return part

    def _tag(self, word: str, position: int) -> Node:
        if not word:
            raise MatchInvalid("no_tag", "a tag is missing at the end", position)
        if word == ")" or word.lower() in KEYWORDS:
            raise MatchInvalid(
                "no_tag",
                f"a tag is missing before {word!r} at character {position}",
                position,
            )
        self._refuse_character(word, position)
        if word.startswith(WORKER_PREFIX):
            raise MatchInvalid(
                "reserved_tag",
                f"{word[:40]!r} at character {position}: tags do not begin with"
                f" {WORKER_PREFIX}; to name one worker, place the task on it",
                position,
            )
        self.index += 1
        return Tag(word)

    def _refuse_character(self, word: str, position: int) -> None:
        if not re.fullmatch(rf"[()]|{_TAG}", word):
            raise MatchInvalid(
                "bad_character",
                f"{word!r} at character {position} cannot be used; write tags of"
                " letters, digits and _ . : = - / joined by and, or, not, ( )",
                position,
            )

    def _peek(self) -> tuple[str, int]:
        """The next word and where it is; an empty one at the end."""
        if self.index < len(self.words):
            return self.words[self.index]
        return "", self.end

    def _take(self, wanted: str) -> bool:
        is_next = self._peek()[0].lower() == wanted
        self.index += is_next
        return is_next


def _joined(kind: type[And | Or], parts: Iterable[Node]) -> Node:
    """One node; a part of the same kind is taken apart, as (a and b) and c."""
    flat: list[Node] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, kind) else (part,))
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def _text(node: Node) -> str:
    match node:
        case Tag():
            return node.name
        case Not():
            return "not " + _grouped(node.part, And | Or)
        case And():
            return " and ".join(_grouped(part, Or) for part in node.parts)
        case Or():
            return " or ".join(_text(part) for part in node.parts)


def _grouped(node: Node, looser: type[And | Or] | UnionType) -> str:
    return f"({_text(node)})" if isinstance(node, looser) else _text(node)


def _rest(node: Node, tags: Collection[str], *, wanted: bool) -> Node | None:
    """The part of `node` that keeps it from being `wanted`, with not only on tags."""
    match node:
        case Tag():
            if (node.name in tags) is wanted:
                return None
            return node if wanted else Not(node)
        case Not():
            return _rest(node.part, tags, wanted=not wanted)
    rests = [_rest(part, tags, wanted=wanted) for part in node.parts]
    failing = list(dict.fromkeys(rest for rest in rests if rest is not None))
    if isinstance(node, And) is wanted:  # De Morgan: not (a or b) needs both nots
        return _joined(And, failing) if failing else None
    return _joined(Or, failing) if None not in rests else None
