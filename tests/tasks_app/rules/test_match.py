from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.rules.match import (
    MAX_DEPTH,
    MAX_LENGTH,
    MatchInvalid,
    is_tag,
    parse_match,
)

MATCHES = [
    # expression                        tags                  matches
    ("gpu", "gpu", True),
    ("gpu", "gpu spot", True),
    ("gpu", "", False),
    ("gpu", "GPU", False),
    ("not gpu", "", True),
    ("not gpu", "gpu", False),
    ("not not gpu", "gpu", True),
    ("gpu and spot", "gpu", False),
    ("gpu and spot", "gpu spot", True),
    ("gpu or spot", "spot", True),
    ("gpu or spot", "", False),
    # and binds before or, not before both
    ("a or b and c", "a", True),
    ("a or b and c", "b", False),
    ("(a or b) and c", "a", False),
    ("not a and b", "b", True),
    ("not a and b", "", False),
    ("not (a and b)", "", True),
    ("not (a and b)", "a b", False),
    ("gpu and not (eu-west or spot)", "gpu", True),
    ("gpu and not (eu-west or spot)", "gpu spot", False),
    ("gpu and not (eu-west or spot)", "eu-west", False),
    ("zone=eu-1 and os:linux", "zone=eu-1 os:linux", True),
    ("10.0.0.0/8", "10.0.0.0/8", True),
    # A word that only begins like an operator is a tag; operators know no case.
    ("android", "android", True),
    ("nothing and order", "nothing order", True),
    ("a AND Not b", "a", True),
]


@pytest.mark.parametrize(("text", "tags", "matches"), MATCHES)
def test_a_match_picks_workers_by_their_tags(
    text: str, tags: str, *, matches: bool
) -> None:
    assert parse_match(text).matches(tags.split()) is matches
    assert (parse_match(text).missing(tags.split()) == "") is matches


CANONICAL = [
    ("  gpu  ", "gpu"),
    ("gpu\n\tand   spot", "gpu and spot"),
    ("(gpu)and(spot)", "gpu and spot"),
    ("gpu and(a or b)", "gpu and (a or b)"),
    ("((a and b)) or c", "a and b or c"),
    ("(a and b) and (c and d)", "a and b and c and d"),
    ("a or (b or c)", "a or b or c"),
    ("NOT(gpu) OR not ( a AND b )", "not gpu or not (a and b)"),
    ("not(not(a))", "not not a"),
]


@pytest.mark.parametrize(("text", "canonical"), CANONICAL)
def test_spellings_of_one_match_have_one_text(text: str, canonical: str) -> None:
    assert parse_match(text).canonical == canonical
    assert parse_match(text) == parse_match(canonical)


MISSING = [
    # expression                      tags        what is missing
    ("gpu", "", "needs gpu"),
    ("gpu and ssd", "ssd", "needs gpu"),
    ("gpu and ssd", "", "needs gpu and ssd"),
    ("gpu or tpu", "", "needs gpu or tpu"),
    ("not spot", "spot", "needs not spot"),
    ("gpu and not (eu-west or spot)", "spot", "needs gpu and not spot"),
    ("(a and b) or c", "a", "needs b or c"),
    ("not (a and b)", "a b", "needs not a or not b"),
    ("x and (a or b)", "", "needs x and (a or b)"),
    ("a and b or a and c", "b c", "needs a"),
]


@pytest.mark.parametrize(("text", "tags", "says"), MISSING)
def test_an_explanation_names_only_what_does_not_hold(
    text: str, tags: str, says: str
) -> None:
    assert parse_match(text).missing(tags.split()) == says


REFUSED = [
    # text               code             position  says
    ("", "empty", 1, "such as gpu"),
    ("  ", "empty", 1, "such as gpu"),
    ("gpu spot", "no_operator", 5, "and or or before 'spot' at character 5"),
    ("gpu (spot)", "no_operator", 5, "before '(' at character 5"),
    ("(gpu) spot", "no_operator", 7, "before 'spot' at character 7"),
    ("a and (b) c", "no_operator", 11, "before 'c' at character 11"),
    ("a and b not c", "no_operator", 9, "before 'not' at character 9"),
    ("gpu and", "no_tag", 8, "missing at the end"),
    ("not", "no_tag", 4, "missing at the end"),
    ("not and a", "no_tag", 5, "missing before 'and' at character 5"),
    ("or a", "no_tag", 1, "missing before 'or' at character 1"),
    ("a and or b", "no_tag", 7, "missing before 'or' at character 7"),
    ("()", "no_tag", 2, "missing before ')' at character 2"),
    ("(gpu", "unbalanced", 1, "the ( at character 1 is not closed"),
    ("(gpu spot)", "unbalanced", 6, "not closed before 'spot' at character 6"),
    ("gpu)", "unbalanced", 4, "the ) at character 4 has no ("),
    ("gpu & spot", "bad_character", 5, "'&' at character 5 cannot be used"),
    ("!gpu", "bad_character", 1, "'!' at character 1 cannot be used"),
    ("-gpu", "bad_character", 1, "'-' at character 1"),
    ("(gpu, spot)", "bad_character", 5, "',' at character 5"),
    ("größe", "bad_character", 3, "'ö' at character 3"),
    ("gpu\0", "bad_character", 4, r"'\x00' at character 4"),
    ("worker:a", "reserved_tag", 1, "place the task on it"),
    ("gpu or worker:a", "reserved_tag", 8, "at character 8"),
    ("g" * (MAX_LENGTH + 1), "too_long", MAX_LENGTH + 1, "here are 501"),
    ("a and(b or c)" + " and d" * 81 + "d", "too_long", 1, "has 501 characters"),
    ("(" * 400 + "a", "too_deep", MAX_DEPTH + 2, "at most 20 levels"),
    ("not " * 100 + "a", "too_deep", 4 * (MAX_DEPTH + 1) + 1, "at most 20 levels"),
]


@pytest.mark.parametrize(("text", "code", "position", "says"), REFUSED)
def test_another_text_is_refused_with_the_place_and_the_reason(
    text: str, code: str, position: int, says: str
) -> None:
    with pytest.raises(MatchInvalid) as caught:
        parse_match(text)

    assert (caught.value.code, caught.value.position) == (code, position)
    assert says in str(caught.value)
    assert len(caught.value.message) < 200


def test_the_deepest_and_the_longest_match_are_read() -> None:
    assert parse_match("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH).canonical == "a"
    assert parse_match("not " * MAX_DEPTH + "a").matches(["a"])
    assert parse_match("g" * MAX_LENGTH).matches(["g" * MAX_LENGTH])


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("gpu", True),
        ("zone=eu-1", True),
        ("os:linux", True),
        ("Worker", True),
        ("worker:a", False),
        ("and", False),
        ("NOT", False),
        ("two words", False),
        ("gpu\n", False),
        ("", False),
        ("g" * (MAX_LENGTH + 1), False),
    ],
)
def test_a_worker_may_carry_the_tags_that_a_match_can_ask_for(
    text: str, *, accepted: bool
) -> None:
    assert is_tag(text) is accepted


names = st.sampled_from(["a", "b", "c", "d"])
expressions = st.recursive(
    names,
    lambda inner: (
        inner.map(lambda part: f"not ({part})")
        | st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"
        )
    ),
    max_leaves=8,
)


@given(expressions, st.sets(names))
def test_a_match_means_what_the_same_words_mean_in_python(
    text: str, tags: set[str]
) -> None:
    values = {name: name in tags for name in "abcd"}
    expected = eval(text, {}, values)

    match = parse_match(text)

    assert match.matches(tags) is expected
    assert eval(match.canonical, {}, values) is expected
    assert parse_match(match.canonical) == match
    if not expected:
        assert not parse_match(match.missing(tags).removeprefix("needs ")).matches(tags)


@given(st.text(max_size=60) | st.text("ab ()&-=:ndotr", max_size=60))
def test_any_text_is_read_or_refused_and_nothing_else_happens(text: str) -> None:
    try:
        canonical = parse_match(text).canonical
    except MatchInvalid:
        return
    assert parse_match(canonical).canonical == canonical
