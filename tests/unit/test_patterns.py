from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdist.errors import UsageError
from simdist.sources import patterns


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{008..011}.tar", ["008.tar", "009.tar", "010.tar", "011.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{0..0}", ["0"]),
        ("{a,b}/{1..2}", ["a/1", "a/2", "b/1", "b/2"]),
        ("x{,y}", ["x", "xy"]),
    ],
)
def test_braces(pattern: str, names: list[str]) -> None:
    assert list(patterns.expand(pattern)) == names


@pytest.mark.parametrize("pattern", ["{}", "{a}", "{1..}", "{2..1}", "{a..c}", "{0..9999999999}"])
def test_braces_that_mean_nothing(pattern: str) -> None:
    with pytest.raises(UsageError):
        patterns.expand(pattern)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a/*.tar", ["a/1.tar", "a/.tar"], ["a/b/1.tar", "b/1.tar", "a/1.tar.gz", "x/a/1.tar"]),
        ("a/**/1.jpg", ["a/1.jpg", "a/b/c/1.jpg"], ["a/b1.jpg", "1.jpg"]),
        ("a/**", ["a/1", "a/b/c"], ["b/1"]),
        ("?.jpg", ["1.jpg", "ä.jpg"], ["12.jpg", "/.jpg", ".jpg"]),
        ("[0-3]?.jpg", ["09.jpg"], ["49.jpg"]),
        ("[!0-3].jpg", ["a.jpg"], ["0.jpg", "/.jpg"]),
        ("[.jpg", ["[.jpg"], ["j.jpg"]),
        ("a+(b).jpg", ["a+(b).jpg"], ["aab.jpg"]),
    ],
)
def test_globs(pattern: str, matching: list[str], others: list[str]) -> None:
    match = patterns.matcher(pattern).fullmatch
    assert [name for name in matching if not match(name)] == []
    assert [name for name in others if match(name)] == []


@given(st.text(alphabet="ab/*?[]!-\\{},.0", max_size=12))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    try:
        assert isinstance(patterns.matcher(text), re.Pattern)
        for name in patterns.expand(text):
            assert name.startswith(patterns.base(text))
    except UsageError:
        pass


@given(st.text(alphabet=st.characters(exclude_characters="*?["), max_size=12))
def test_a_name_without_wildcards_matches_only_itself(text: str) -> None:
    assert patterns.matcher(text).fullmatch(text)
    assert not patterns.matcher(text).fullmatch(text + "x")


def test_the_base_of_a_pattern_is_a_whole_folder() -> None:
    assert patterns.base("a/b*/c") == "a"
    assert patterns.base("a/b/{0..1}.tar") == "a/b"
    assert patterns.base("*.tar") == ""
