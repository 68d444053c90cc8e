"""simdist indexes huge image collections and finds the similar images in them, fast.

>>> from pathlib import Path
>>> import simdist
>>> summary = simdist.ingest("photos/", collection="demo", model="efficientnet-lite0")
>>> embedder = simdist.Embedder.load("efficientnet-lite0")
>>> with simdist.open_store(simdist.Settings.resolve()) as store:
...     collection = simdist.Collection.open(store, "demo")
...     [vector] = embedder.embed_files([Path("photo.jpg")])
...     hits = simdist.Searcher(collection).search(vector, n=5)
>>> print(f"{hits[0].score:.2f}")
1.00
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.ingest.job import ingest
    from simdist.embedding import Embedder
    from simdist.errors import SimdistError
    from simdist.index.collection import Collection
    from simdist.joining.duplicates import duplicates
    from simdist.joining.neighbours import neighbours
    from simdist.lshash import LSHash
    from simdist.search.client import Client
    from simdist.search.question import Hit, Question
    from simdist.search.searcher import Searcher
    from simdist.settings import Settings
    from simdist.sources import ImageRef
    from simdist.store import open_store

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Collection",
    "Embedder",
    "Hit",
    "ImageRef",
    "LSHash",
    "Question",
    "Searcher",
    "Settings",
    "SimdistError",
    "duplicates",
    "ingest",
    "neighbours",
    "open_store",
]

_HOMES = {
    "Client": "simdist.search.client",
    "Collection": "simdist.index.collection",
    "Embedder": "simdist.embedding",
    "Hit": "simdist.search.question",
    "ImageRef": "simdist.sources",
    "LSHash": "simdist.lshash",
    "Question": "simdist.search.question",
    "Searcher": "simdist.search.searcher",
    "Settings": "simdist.settings",
    "SimdistError": "simdist.errors",
    "duplicates": "simdist.joining.duplicates",
    "ingest": "cluster.ingest.job",
    "neighbours": "simdist.joining.neighbours",
    "open_store": "simdist.store",
}


def __getattr__(name: str) -> object:
    # Imported when first used, so that `import simdist` stays light.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'simdist' has no attribute {name!r}")
