"""What collections are called: each name leads to the home that is in a collection's keys.

All names lie in one hash, so that a rename, a switch of an alias and a drop are each one atomic
write, also in a Redis Cluster, where keys in different slots cannot be renamed together.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from simdist.errors import CollectionError, MissingCollectionError, Remedy, StoreError, UsageError
from simdist.store import Store, layout, name_scripts
from simdist.store.damage import damaged

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What stands before a home, see `layout`.
_OWN, _ALIAS, _WORK, _NOBODY = "=", ">", "!", "-"
# In homes that are not what a collection was called first; in no name.
_NEW = "~"
# Names are changed by people: somebody else is in between once, not often.
_TRIES = 100

T = TypeVar("T")
Change = Mapping[str, str]


@dataclass(frozen=True)
class Names:
    """What all names of a store lead to at one moment.

    Attributes:
        leads: as they are stored, see `layout`.
        homes: of all collections.
    """

    leads: Mapping[str, str]
    homes: frozenset[str]

    @classmethod
    def read(cls, store: Store) -> Names:
        """As they are now.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        # In this order: a home is there before a name leads to it.
        leads = store.call("HGETALL", layout.NAMES)
        homes = store.call("SMEMBERS", layout.COLLECTIONS)
        return cls(
            dict(_lead(name, to) for name, to in leads.items()),
            frozenset(home.decode() for home in homes),
        )

    @property
    def collections(self) -> dict[str, str]:
        """The homes of all collections by what they are called, sorted."""
        named = {name: to[1:] for name, to in self.leads.items() if to.startswith(_OWN)}
        # An earlier version gave them no names.
        unnamed = {h: h for h in self.homes if h not in self.leads and _NEW not in h}
        there = {name: home for name, home in named.items() if home in self.homes}
        return dict(sorted((unnamed | there).items()))

    @property
    def aliases(self) -> dict[str, str]:
        """What the collections are called that aliases lead to, by the aliases, sorted."""
        names = {home: name for name, home in self.collections.items()}
        pairs = [(name, to[1:]) for name, to in self.leads.items() if to.startswith(_ALIAS)]
        return {name: names[home] for name, home in sorted(pairs) if home in names}

    def home(self, name: str) -> str | None:
        """The home that a name leads to, if there is a collection."""
        to = self.leads.get(name)
        home = name if to is None else _home(to)
        return home if home in self.homes else None

    def is_alias(self, name: str) -> bool:
        """Whether a name is an alias."""
        return self.leads.get(name, "").startswith(_ALIAS)

    def work(self) -> dict[str, dict[str, Any]]:
        """What is under way with homes: `doing`, and what else belongs to it."""
        found = {}
        for name, text in self.leads.items():
            if name.startswith(_WORK):
                try:
                    found[name[1:]] = dict(json.loads(text))
                except ValueError as error:
                    raise damaged(layout.NAMES, f"{name} is not JSON") from error
        return found

    def copies(self, name: str) -> list[str]:
        """The homes of copies that are to be called so, and are not finished."""
        work = self.work().items()
        return [home for home, one in work if one["doing"] == "copy" and one["name"] == name]

    def left(self, name: str, without: str) -> Change:
        """What is to change so that a name no longer leads to the home `without`.

        With it stands, as it is, who else has the home of that name: it must be so still then.
        """
        users = {one: to for one, to in self.leads.items() if to == _OWN + name and one != name}
        if (work := _WORK + name) in self.leads:
            users[work] = self.leads[work]
        return users | {name: _NOBODY if users or without == name else ""}


def checked_name(name: str) -> str:
    """The name, if a collection can be called so.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a collection: use letters, digits, '.', '_' and '-', at most 64"
        )
    return name


def home_of(store: Store, name: str) -> str | None:
    """The home that a name leads to, which need not be there; None if it leads nowhere."""
    to = store.call("HGET", layout.NAMES, checked_name(name))
    return name if to is None else _home(_lead(name.encode(), to)[1])


def home_for(store: Store, name: str) -> str:
    """The home that a name leads to; if it leads nowhere, it does to a new home from now on."""

    def decide(names: Names) -> tuple[Change, str]:
        to = names.leads.get(name, "")
        if to not in ("", _NOBODY):
            return {}, _home(to) or name
        home = name if to == "" else new_home(name)
        return ({} if home in names.homes else {name: _OWN + home}), home

    # Once it has its name, as it mostly has, this is all there is to ask.
    to = store.call("HGET", layout.NAMES, checked_name(name))
    home = to and _home(_lead(name.encode(), to)[1])
    return str(home) if home else changed(store, decide)


def new_home(name: str) -> str:
    """A home for a collection of this name, that no other has had."""
    return f"{name}{_NEW}{secrets.token_hex(4)}"


def rename(store: Store, old: str, new: str) -> None:
    """Call a collection something else, for everyone at once; its aliases lead to it still.

    Raises:
        MissingCollectionError: there is none of the old name.
        CollectionError: the new name is taken, or the old one is an alias.
        UsageError: nothing can be called so.
    """
    checked_name(new)

    def decide(names: Names) -> tuple[Change, None]:
        home = required(names, old)
        if names.is_alias(old):
            raise CollectionError(f"{old!r} is an alias of {names.aliases[old]!r}: rename that")
        if new == old:
            return {}, None
        require_free(names, new)
        return {**names.left(old, home), new: _OWN + home}, None

    changed(store, decide)


def exchange(store: Store, one: str, other: str) -> None:
    """Let two names lead to each other's collections, for everyone at once.

    Aliases of what the first was lead to what it is now.

    Raises:
        MissingCollectionError: there is no collection of one of the names.
    """

    def decide(names: Names) -> tuple[Change, None]:
        home, its = required(names, one), required(names, other)
        aliases = [name for name, to in names.aliases.items() if to == one]
        change = {one: _OWN + its, other: _OWN + home}
        return change | dict.fromkeys(aliases, _ALIAS + its), None

    changed(store, decide)


def set_alias(store: Store, alias: str, name: str) -> str:
    """Let an alias lead to a collection, for everyone at once, wherever it has led before.

    Returns:
        What that collection is called: `name` may be an alias itself.

    Raises:
        MissingCollectionError: there is no such collection.
        CollectionError: a collection is called so.
        UsageError: nothing can be called so.
    """
    checked_name(alias)

    def decide(names: Names) -> tuple[Change, str]:
        home = required(names, name)
        if not names.is_alias(alias):
            require_free(names, alias)
        return {alias: _ALIAS + home}, names.aliases.get(name, name)

    return changed(store, decide)


def remove_alias(store: Store, alias: str) -> None:
    """Remove an alias; the collection stays.

    Raises:
        CollectionError: it is none.
    """

    def decide(names: Names) -> tuple[Change, None]:
        if not names.is_alias(alias):
            raise CollectionError(f"there is no alias {alias!r}", remedy=Remedy.COLLECTIONS)
        return names.left(alias, ""), None

    changed(store, decide)


def required(names: Names, name: str) -> str:
    """The home that a name leads to.

    Raises:
        MissingCollectionError: it leads to none.
    """
    if (home := names.home(checked_name(name))) is None:
        raise missing(names, name)
    return home


def require_free(names: Names, name: str) -> None:
    """Check that nothing is called so yet.

    Raises:
        CollectionError: something is.
    """
    if names.is_alias(name):
        raise CollectionError(
            f"{name!r} is an alias of {names.aliases.get(name, 'nothing')!r}: remove it first"
        )
    if names.home(name) is not None or names.leads.get(name, _NOBODY) != _NOBODY:
        raise CollectionError(f"there is a collection {name!r} already: choose another name")


def missing(names: Names, name: str) -> CollectionError:
    """What is said where there is no collection of a name."""
    # The names of others are not in the message, which callers of a service are shown.
    return MissingCollectionError(
        f"there is no collection {name!r}: ingest images into it first",
        others=tuple(names.collections),
        remedy=Remedy.INGEST,
        about=name,
    )


def begin(home: str, work: Mapping[str, Any]) -> Change:
    """What is to change so that all know what is under way with a home."""
    return {_WORK + home: json.dumps(work, separators=(",", ":"))}


def ended(names: Names, home: str, name: str = "") -> Change:
    """What is to change once nothing is under way with a home, which is called so now, if at all.

    A name that was left to nobody for its sake is free.
    """
    change = {_WORK + home: ""}
    if name:
        return change | {name: _OWN + home}
    # As it is, where it leads to another: that one may be dropped just now.
    leads = names.leads.get(home, "")
    return change | {home: "" if leads == _NOBODY else leads}


def changed(store: Store, decide: Callable[[Names], tuple[Change, T]]) -> T:
    """Change names as `decide` says of those that there are; returns what else it says.

    Raises:
        StoreError: the server cannot be reached, or others change the same names all the time.
    """
    for _ in range(_TRIES):
        names = Names.read(store)
        change, answer = decide(names)
        before = {name: names.leads.get(name, "") for name in change}
        if not change or name_scripts.change(store, before, change):
            return answer
    raise StoreError("the names of collections change all the time: try again")


def _lead(name: bytes, to: bytes) -> tuple[str, str]:
    """A name, and what it leads to, as text.

    Raises:
        StoreError: it is damaged.
    """
    try:
        text = name.decode(), to.decode()
    except UnicodeDecodeError:
        text = "", ""
    leads = text[1] == _NOBODY or (text[1][:1] in (_OWN, _ALIAS) and text[1][1:])
    if leads or text[0].startswith(_WORK):
        return text
    raise StoreError(
        f"the field {name!r} of {layout.NAMES} is damaged: if it is removed, the name leads to the "
        "collection that was made under it"
    )


def _home(to: str) -> str | None:
    return None if to == _NOBODY else to[1:]
