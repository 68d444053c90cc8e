"""The state of a partition, field by field: what cannot be, and what it should be."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from simdist.errors import StoreError
from simdist.index.partition import Partition
from simdist.index.rehash import parse_asked
from simdist.index.rows import Damage
from simdist.index.state import FIELDS
from simdist.index.tuning import parse_tunings
from simdist.store import Store, layout
from simdist.store.damage import count_of

# Fields that are there at times only.
_OPTIONAL = {"fitted", "filled", "fill", "retired", "skipped"}


@dataclass
class KeysFound:
    """Which keys a partition has: the number after its last block's, those of its families."""

    blocks: int = 0
    families: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Correction:
    """A field of the state that is wrong, and what is to be there instead; None: nothing."""

    name: str
    value: str | int | None
    damage: Damage


def find_keys(store: Store, collection: str, partitions: int) -> list[KeysFound]:
    """The keys of each partition of a collection; the server goes through all that it has."""
    found = [KeysFound() for _ in range(partitions)]
    for key in store.scan(f"simdist:{{{collection}/*}}:*"):
        # simdist:{name/partition}:kind:number...
        _, place, kind, *numbers = key.decode(errors="replace").split(":")
        partition = int(place.rpartition("/")[2].rstrip("}"))
        if partition >= partitions or not numbers or not numbers[0].isdecimal():
            continue
        if kind in {"vectors", "records"}:
            found[partition].blocks = max(found[partition].blocks, int(numbers[0]) + 1)
        elif kind == "family":
            found[partition].families.add(int(numbers[0]))
    return found


def corrections(
    partition: Partition, partitions: int, stored: Mapping[bytes, bytes], keys: KeysFound
) -> list[Correction]:
    """What is wrong with the state of a partition, as it is stored.

    Args:
        partitions: how many the collection has.
    """
    found = [*_of_numbers(partition, stored, keys), *_of_generation(partition, stored, keys)]
    meta = partition.keys.meta
    if b"born" not in stored:
        found.append(Correction("born", secrets.token_hex(8), Damage(meta, "it lacks its born")))
    if partition.number == 0:
        for name, parse in (("tuning", parse_tunings), ("asked", parse_asked)):
            try:
                if value := stored.get(name.encode()):
                    parse(value, meta, partitions)
            except StoreError:
                found.append(Correction(name, None, Damage(meta, f"its {name} cannot be read")))
    return found


def _of_numbers(
    partition: Partition, stored: Mapping[bytes, bytes], keys: KeysFound
) -> Iterator[Correction]:
    meta, used = partition.keys.meta, keys.blocks * layout.BLOCK
    for name, most in FIELDS.items():
        value = stored.get(name.encode())
        if value is None and name in _OPTIONAL:
            continue
        right = used if name == "rows" else None if name in _OPTIONAL else 0
        try:
            number = count_of(value, meta, name, most=most)
        except StoreError:
            what = f"its {name} cannot be {(value or b'').decode(errors='replace')[:40]!r}"
            yield Correction(name, right, Damage(meta, what))
            continue
        if name == "rows" and number <= used - layout.BLOCK:
            yield Correction(name, used, Damage(meta, f"it has more than {number} rows"))


def _of_generation(
    partition: Partition, stored: Mapping[bytes, bytes], keys: KeysFound
) -> Iterator[Correction]:
    """The generation in use, if that has no family, and there is just one that it can be."""
    generation, following = stored.get(b"generation", b""), stored.get(b"next", b"")
    families = {str(number).encode() for number in keys.families}
    others = families - {following}
    if generation not in families and len(others) == 1 and following != generation:
        [only] = others
        what = f"its generation is not {only.decode()}, of which there are hash tables"
        yield Correction("generation", only.decode(), Damage(partition.keys.meta, what))
