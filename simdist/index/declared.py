"""Fields of the metadata whose type a collection knows, so that filters compare what is meant."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.store.damage import damaged

# A field of `meta` in partition 0, see `layout`.
_FIELDS = "fields"
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Field:
    """A field of the metadata, and the type of its values: one of `TYPES`."""

    name: str
    type: str

    @classmethod
    def parse(cls, text: str) -> Field:
        """Such as `price:float`.

        Raises:
            UsageError: it is none, or of no such type.
        """
        name, _, kind = text.rpartition(":")
        if not name or kind not in TYPES:
            raise UsageError(
                f"{text!r} is no field with its type: price:float, or one of {', '.join(TYPES)}"
            )
        return cls(name, kind)

    def typed(self, value: Any) -> Any:
        """A value as one of this type; texts are read, as lists have nothing else.

        Raises:
            ValueError: it cannot be one.
        """
        try:
            return TYPES[self.type](value)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"{self.name} is {str(value)[:40]!r}, which is no {self.type}"
            ) from error


def _float(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _int(value: Any) -> int:
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError
    return number


def _bool(value: Any) -> bool:
    return value if isinstance(value, bool) else _BOOLEANS[value.lower()]


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        raise TypeError
    return value if isinstance(value, str) else json.dumps(value)


TYPES = {"float": _float, "int": _int, "bool": _bool, "text": _text}


def declared(collection: Collection) -> tuple[Field, ...]:
    """The fields whose types a collection knows; one round trip.

    Raises:
        StoreError: what is stored of them is damaged.
    """
    meta = collection.partitions[0].keys.meta
    stored = collection.store.call("HGET", meta, _FIELDS) or b"{}"
    try:
        pairs = json.loads(stored).items()
        return tuple(Field.parse(f"{name}:{kind}") for name, kind in pairs)
    except (ValueError, AttributeError, UsageError) as error:
        raise damaged(meta, f"its {_FIELDS} are not types of fields") from error


def declare(collection: Collection, fields: Iterable[Field]) -> tuple[Field, ...]:
    """Let a collection know the types of more fields, from now on; returns all that it knows.

    Raises:
        UsageError: it knows another type of one of them.
    """
    known = {field.name: field for field in declared(collection)}
    new = False
    for field in fields:
        before = known.setdefault(field.name, field)
        if before != field:
            raise UsageError(
                f"{field.name} is {before.type} in {collection.name!r}, not {field.type}: leave it "
                "so, or use another collection"
            )
        new = True
    if new:
        types = {field.name: field.type for field in known.values()}
        collection.partitions[0].note("HSET", "meta", _FIELDS, json.dumps(types))
    return tuple(known.values())
