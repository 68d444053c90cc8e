"""The server-side scripts by which collections get their names, and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simdist.store import layout
from simdist.store.connection import Argument, Store
from simdist.store.lua_source import run


def change(store: Store, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Change what names lead to, all at once, if they lead where they are thought to.

    Args:
        before: by name; an empty string for nothing.
        after: of the same names.

    Returns:
        Whether they lead there now. A script that is sent twice finds its own work.
    """
    triples = [word for name in before for word in (name, before[name], after[name])]
    if run(store, "names", layout.NAMES, {}, triples):
        return True
    now = store.call("HMGET", layout.NAMES, *after)
    return [value or b"" for value in now] == [value.encode() for value in after.values()]


def close(store: Store, meta: str) -> dict[bytes, bytes]:
    """End a partition: from now on it is gone for everyone, and its keys are left to be removed.

    Returns:
        Its last state, as often as it is asked for; nothing once all is removed.
    """
    reply = run(store, "close", meta, {})
    return dict(zip(reply[::2], reply[1::2], strict=True))


def note(
    store: Store, meta: str, *, born: bytes, command: str, key: str, words: Sequence[Argument]
) -> bool:
    """Run a command on a key of a partition, unless that is gone, or was made anew.

    Args:
        key: less what all keys of the partition begin with.
        words: the command's other arguments.
    """
    arguments: dict[str, Argument] = {"born": born, "command": command, "key": key}
    return bool(run(store, "note", meta, arguments, words))
