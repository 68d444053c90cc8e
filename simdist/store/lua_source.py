"""The server-side scripts' sources, and how one is run.

A script is `lua/<name>.lua` behind what is put in front of it here: the numbers of `layout`, a
local variable for each argument under the name that it has in Python, and the parts that scripts
share. So the order of the arguments is written once, and Lua repeats no number.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from simdist.store import layout
from simdist.store.connection import Argument, Script, Store

# While a cluster moves a partition to another node, some keys are here and some there: a script
# would break off half done, or take for new what it does not see. Two keys that never exist make
# the server refuse it before it has done anything.
_ALL_KEYS_HERE = "redis.call('EXISTS', KEYS[1] .. ':no', KEYS[1] .. ':none')"
_ROW = layout.ROW_DTYPE.itemsize
_NUMBERS = {
    "BLOCK": layout.BLOCK,
    "PREFIX": layout.PREFIX,
    "FIELD": layout.FIELD,
    "DIGEST": layout.PREFIX + layout.FIELD,
    "FINGERPRINT": layout.FINGERPRINT,
    "ROW": _ROW,
    "ENTRY": _ROW + layout.FINGERPRINT,
    # Bytes of the lengths in front of a block's records.
    "LENGTHS": layout.BLOCK * _ROW,
    "DEAD": layout.DEAD,
    "FILE": layout.FILE,
    "PLACE": layout.FILE + layout.OFFSET,
    "TIP": layout.TIP,
    "TIPS": layout.TIPS,
}
# What comes before a script.
_PARTS = {
    "commit": ("damage", "history", "bury", "blocks"),
    "delete": ("damage", "history", "bury"),
    "find": ("damage", "history", "row"),
    "fit": ("damage", "history"),
    "insert": ("damage", "history", "blocks"),
    "known": ("damage", "history"),
    "move": ("damage", "history"),
    "note": ("damage", "history"),
    "read": ("damage", "history"),
    "rehash_finish": ("damage", "history"),
    "repair": ("damage", "history"),
    "rows": ("damage", "history", "row"),
}


def run(
    store: Store,
    name: str,
    meta: str,
    arguments: Mapping[str, Argument],
    rest: Sequence[Argument] = (),
    *,
    replicas: int = 0,
) -> Any:
    """Run a script on the partition with that `meta` key.

    Args:
        rest: arguments that have no name of their own.
        replicas: how many must confirm it (`Store.run`).
    """
    script = _script(name, tuple(arguments))
    return store.run(script, [meta], [*arguments.values(), *rest], replicas=replicas)


@cache
def _script(name: str, arguments: tuple[str, ...]) -> Script:
    folder = resources.files("simdist.store").joinpath("lua")
    source = "\n".join(
        [
            _ALL_KEYS_HERE,
            *(f"local {number} = {value}" for number, value in _NUMBERS.items()),
            *(f"local {argument} = ARGV[{i}]" for i, argument in enumerate(arguments, 1)),
            # What has no name of its own comes behind the others.
            f"local REST = {len(arguments) + 1}",
            *(folder.joinpath(f"{part}.lua").read_text() for part in (*_PARTS.get(name, ()), name)),
        ]
    )
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def random_tip() -> bytes:
    """What tells a change from any other; not drawn in Lua, which draws the same on each server."""
    return secrets.token_bytes(layout.TIP)
