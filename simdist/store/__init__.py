"""Redis: the connection, the embedded server, the key layout, the server-side scripts."""

from simdist.store.connection import Store, connect, open_store

__all__ = ["Store", "connect", "open_store"]
