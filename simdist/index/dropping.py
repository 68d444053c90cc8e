"""The end of a collection: its name goes first, then whoever uses it is told, then its keys go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice

from simdist.errors import CollectionError, StoreError
from simdist.hashing import load_family
from simdist.index import catalogue
from simdist.index.moved import remove_files
from simdist.index.names import Change, Names, begin, changed, ended, required
from simdist.store import Store, layout, name_scripts

# A field of a partition's `meta`: that its repair was begun, and did not end.
MENDING = b"mending"
# Keys that one round trip unlinks: the server frees them in the background.
_UNLINKED = 1000

OnProgress = Callable[[str, int, int], None]


def drop(
    store: Store, name: str, *, on_progress: OnProgress = lambda _doing, _done, _total: None
) -> None:
    """Drop a collection: nothing of it is left.

    From the first write on nobody finds it, and the name can be used anew; searchers and ingests
    that have it open are told that it is gone. Whoever dies in between, the same call goes on; and
    then that is all it does.

    Args:
        on_progress: called with what is done, how many keys are removed, and of how many.

    Raises:
        MissingCollectionError: there is none of that name.
        CollectionError: it is an alias, or one leads to it.
        StoreError: its entry is damaged, or the server cannot be reached or refuses.
        SourceError, OutputError: its files cannot be removed: they are left, and the same call goes
            on there.
    """
    finish(store, begin_drop(store, name), on_progress=on_progress)


def begin_drop(store: Store, name: str) -> list[str]:
    """Take a collection's name away, by which it is as good as gone; the homes to be removed.

    Raises:
        MissingCollectionError, CollectionError, StoreError: as `drop`.
    """
    return begun(store, name) or [changed(store, partial(_begin, store, name))]


def finish(
    store: Store,
    homes: Iterable[str],
    *,
    on_progress: OnProgress = lambda _doing, _done, _total: None,
) -> None:
    """Remove what is left of collections whose drop was begun; what others have removed is well."""
    for home in homes:
        if work := Names.read(store).work().get(home):
            _remove(store, home, work, on_progress)


def begun(store: Store, name: str) -> list[str]:
    """The homes of collections of that name whose drop was begun, and not finished."""
    work = Names.read(store).work()
    return [home for home, one in work.items() if one["doing"] == "drop" and one["name"] == name]


def _begin(store: Store, name: str, names: Names) -> tuple[Change, str]:
    if names.home(name) is None and (copies := names.copies(name)):
        # One that was never finished.
        return begin(copies[0], names.work()[copies[0]] | {"doing": "drop"}), copies[0]
    home = required(names, name)
    if names.is_alias(name):
        raise CollectionError(
            f"{name!r} is an alias of {names.aliases[name]!r}: drop that, or remove the alias"
        )
    if aliases := [alias for alias, to in names.aliases.items() if to == name]:
        raise CollectionError(
            f"the alias {aliases[0]!r} leads to {name!r}: remove it, or let it lead elsewhere"
        )
    _, entry = catalogue.find(store, name, earlier=True)
    work = {"doing": "drop", "name": name} | entry.measures()
    return {**names.left(name, home), **begin(home, work)}, home


def _remove(store: Store, home: str, work: Mapping[str, int], on_progress: OnProgress) -> None:
    partitions = [layout.Keys(home, number) for number in range(work["partitions"])]
    # All first: nobody is to see a part of it.
    states = [name_scripts.close(store, keys.meta) for keys in partitions]
    # The first last: it says where files are.
    for keys, state in zip(reversed(partitions), reversed(states), strict=True):
        if _is_damaged(store, keys, state):
            removed = _all_keys(store, keys)
        elif state:
            removed = _keys(store, keys, state, work["uri_bits"], work["dim"])
        else:
            continue
        _unlink(store, removed, on_progress)
        remove_files(states[0], keys)
        store.call("UNLINK", keys.dropped, keys.tips)
    store.call("SREM", layout.COLLECTIONS, home)
    changed(store, lambda names: (ended(names, home), None))


def _unlink(store: Store, keys: Iterable[str], on_progress: OnProgress) -> None:
    left, done = iter(keys), 0
    while batch := list(islice(left, _UNLINKED)):
        # One by one: in a cluster of servers a command is for one slot.
        store.call_many([("UNLINK", key) for key in batch])
        done += len(batch)
        on_progress("removing keys", done, 0)


def _is_damaged(store: Store, keys: layout.Keys, state: Mapping[bytes, bytes]) -> bool:
    """Whether something is lost of a closed partition by which its keys are found."""
    if MENDING in state or not store.call("EXISTS", keys.tips):
        # Without tips nothing was ever written, or they were removed: before the families.
        return MENDING in state
    try:
        families = [keys.family(generation) for generation in _generations(state)]
    except ValueError:
        return True
    return not state or not all(store.call("EXISTS", family) for family in families)


def _generations(state: Mapping[bytes, bytes]) -> list[int]:
    numbers = {int(state.get(name, b"0")) for name in (b"generation", b"next", b"retired")}
    return sorted(numbers - {0})


def _all_keys(store: Store, keys: layout.Keys) -> Iterator[str]:
    """All keys that there are of a partition, less those by which a drop is gone on with.

    The server goes through all that it has, which the users of a deployed one may not ask for.
    """
    for key in store.scan(keys.pattern()):
        if (name := key.decode()) not in (keys.dropped, keys.tips):
            yield name


def _keys(
    store: Store, keys: layout.Keys, state: Mapping[bytes, bytes], uri_bits: int, dim: int
) -> Iterator[str]:
    """All keys of a closed partition, its families last: they say how many buckets there are."""
    blocks = range(int(state.get(b"rows", b"0")) // layout.BLOCK + 1)
    yield from chain.from_iterable(
        (keys.vectors(n), keys.records(n), keys.moved(n)) for n in blocks
    )
    yield from map(keys.uris, range(1 << uri_bits))
    yield from (keys.dead, keys.tips, keys.lease, keys.failures, keys.decisions)
    for generation in _generations(state):
        yield from _buckets(store, keys, generation, dim)
        yield keys.family(generation)


def _buckets(store: Store, keys: layout.Keys, generation: int, dim: int) -> Iterator[str]:
    data = store.call("GET", keys.family(generation))
    if data is None:
        # It went after its buckets, when this was begun.
        return
    try:
        family = load_family(data, dim=dim)
    except (StoreError, CollectionError):
        # It is damaged. Not for all: the users of a deployed server may not scan.
        yield from (key.decode() for key in store.scan(keys.pattern(f"bucket:{generation}")))
        return
    for table in range(family.tables):
        for bucket in range(family.size):
            yield keys.bucket(generation, table, bucket)
