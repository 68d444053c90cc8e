"""Filters in words: `label = "cat" and price < 20 and not (brand in ("Acme", "Ajax"))`.

    filter  = all { "or" all }
    all     = one { "and" one }
    one     = "not" one | "(" filter ")" | field test
    test    = ("=" | "!=" | "<" | "<=" | ">" | ">=" | "^=") value
            | "in" "(" value { "," value } ")"
            | "exists"
    value   = "text" | 'text' | number | true | false

A field is `label`, `uri`, `folder` (the URI up to its last slash) or the name of one in the
metadata, of which those that are called so are written `metadata.label` and so on; a name that is
no word stands in backquotes. `^=` is "begins with". What is compared must be of one type, or it is
not so: "5" is not 5, and no field is less than anything if an image lacks it. `!=` is `not =`, and
true where there is no such field. Texts are in the order of their characters, which is that of
dates in ISO 8601.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from simdist.errors import UsageError
from simdist.index.fields import Key, Value, field_named, typed, value_of

# Characters, tests, and parentheses within each other: what nobody writes by hand.
MAX_FILTER, _MAX_TESTS, _MAX_DEPTH = 4000, 200, 32

# Whether a value of a field (None: it has none) is what is looked for.
Test = Callable[[object], bool]

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<quoted>`[^`]+`)
    | (?P<word>[^\W\d][\w.-]*)
    | (?P<sign>\^=|!=|<=|>=|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_WORDS = frozenset({"and", "or", "not", "in", "exists", "true", "false"})
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


@dataclass(frozen=True)
class FieldTest:
    """A test of one field.

    Attributes:
        field: as `fields.field_named` has it.
    """

    field: str
    holds: Test


@dataclass(frozen=True)
class Not:
    """What is so where another is not."""

    one: Node


@dataclass(frozen=True)
class AllOf:
    """What is so where all others are."""

    of: tuple[Node, ...]


@dataclass(frozen=True)
class AnyOf:
    """What is so where one of others is, or several are."""

    of: tuple[Node, ...]


Node = FieldTest | Not | AllOf | AnyOf


@dataclass(frozen=True)
class Where:
    """A filter: which images are meant.

    Attributes:
        text: what it was made from; equal texts are equal filters.
        node: what must hold of an image.
    """

    text: str
    node: Node

    @classmethod
    def parse(cls, text: str) -> Where:
        """Read a filter.

        Raises:
            UsageError: it is none; the message says what is wrong, and where.
        """
        if len(text) > MAX_FILTER:
            raise UsageError(f"a filter has at most {MAX_FILTER:,} characters")
        return _parsed(text)

    def has(self, uri: str, label: str | None, metadata: Mapping[str, Any]) -> bool:
        """Whether an image is meant."""

        def holds(node: Node) -> bool:
            match node:
                case FieldTest():
                    return node.holds(value_of(node.field, uri, label, metadata))
                case Not():
                    return not holds(node.one)
                case AllOf():
                    return all(map(holds, node.of))
                case AnyOf():
                    return any(map(holds, node.of))

        return holds(self.node)


@lru_cache(256)  # to read one takes a third of a search's time
def _parsed(text: str) -> Where:
    return Where(text, _Parser(text).whole())


def with_label(label: str) -> Where:
    """The filter for images with a label."""
    return Where(f"label = {label!r}", FieldTest("label", lambda value: value == label))


def has_one_of(field: str, keys: frozenset[Key]) -> Where:
    """The filter for images with one of some values in a field."""
    return Where(f"{field} in {sorted(map(repr, keys))}", FieldTest(field, _equals_one_of(keys)))


def both(one: Where | None, other: Where | None) -> Where | None:
    """What both filters mean; None for all images."""
    if one is None or other is None:
        return one or other
    return Where(f"({one.text}) and ({other.text})", AllOf((one.node, other.node)))


class _Parser:
    """Reads a filter from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = self._tests = self._depth = 0

    def whole(self) -> Node:
        node = self._any()
        if self._next() is not None:
            raise self._wrong("'and' or 'or'")
        return node

    def _any(self) -> Node:
        nodes = [self._all()]
        while self._take("or"):
            nodes.append(self._all())
        return nodes[0] if len(nodes) == 1 else AnyOf(tuple(nodes))

    def _all(self) -> Node:
        nodes = [self._one()]
        while self._take("and"):
            nodes.append(self._one())
        return nodes[0] if len(nodes) == 1 else AllOf(tuple(nodes))

    def _one(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UsageError(f"a filter has at most {_MAX_DEPTH} parentheses within each other")
        if self._take("not"):
            node: Node = Not(self._one())
        elif self._take("("):
            node = self._any()
            self._must(")")
        else:
            node = self._test()
        self._depth -= 1
        return node

    def _test(self) -> Node:
        self._tests += 1
        if self._tests > _MAX_TESTS:
            raise UsageError(f"a filter has at most {_MAX_TESTS} tests")
        field = self._field()
        if self._take("exists"):
            return FieldTest(field, lambda value: value is not None)
        if self._take("in"):
            return FieldTest(field, _equals_one_of({(type(v), v) for v in self._values()}))
        for sign in ("!=", "^=", *_ORDER):
            if self._take(sign):
                value = self._value()
                if sign == "^=":
                    return FieldTest(field, _begins_with(value, self))
                if sign == "!=":
                    return Not(FieldTest(field, _compares("=", value)))
                return FieldTest(field, _compares(sign, value))
        raise self._wrong("=, !=, <, <=, >, >=, ^=, 'in' or 'exists'")

    def _field(self) -> str:
        token = self._next()
        if token is None or token[0] not in ("word", "quoted") or token[1].lower() in _WORDS:
            raise self._wrong("the name of a field")
        self._at += 1
        kind, name, _ = token
        return f"metadata.{name[1:-1]}" if kind == "quoted" else field_named(name)

    def _values(self) -> list[Value]:
        self._must("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._must(")")
        return values

    def _value(self) -> Value:
        token = self._next()
        if token is not None:
            kind, word, _ = token
            self._at += 1
            if kind == "number":
                return float(word)
            if kind == "text":
                return _ESCAPE.sub(r"\1", word[1:-1])
            if word.lower() in ("true", "false"):
                return word.lower() == "true"
            self._at -= 1
        raise self._wrong('a number, true, false or "text in quotes"')

    def _next(self) -> tuple[str, str, int] | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, word: str) -> bool:
        token = self._next()
        if token is None or token[0] not in ("word", "sign") or token[1].lower() != word:
            return False
        self._at += 1
        return True

    def _must(self, sign: str) -> None:
        if not self._take(sign):
            raise self._wrong(f"'{sign}'")

    def _wrong(self, wanted: str) -> UsageError:
        token = self._next()
        where = "at its end" if token is None else f"at character {token[2] + 1}, {token[1][:40]!r}"
        return UsageError(f"the filter is not understood {where}: {wanted} is expected there")


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """The kind, the characters, and the place of each word, number and sign."""
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise UsageError(
                f"the filter is not understood at character {at + 1}, {text[at : at + 20]!r}: put "
                "texts in quotes, and names with other characters than letters in backquotes"
            )
        yield match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
        at = match.end()


def _compares(sign: str, value: Value) -> Test:
    kind, compare = type(value), _ORDER[sign]

    def holds(other: object) -> bool:
        found = typed(other)
        return found is not None and found[0] is kind and compare(found[1], value)

    return holds


def _equals_one_of(wanted: Set[Key]) -> Test:
    return lambda other: typed(other) in wanted


def _begins_with(value: Value, parser: _Parser) -> Test:
    if not isinstance(value, str):
        raise parser._wrong('"text in quotes" in front of which ^= stands')
    return lambda other: isinstance(other, str) and other.startswith(value)
