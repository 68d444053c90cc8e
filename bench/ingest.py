"""How fast is ingest, and how much of the network's own speed does it reach?

Measures, on a seeded sample of a folder, with the same actors, threads and allocator throughout:

- decode: fetch and decode alone, on all decoders;
- network: the embedding actors alone, on batches that lie ready, right before and right after
  the whole, so that both see the same machine;
- whole: `simdist ingest`'s pipeline from the listing to the commit in an embedded server, between
  the first and the last finished shard. Starting Ray and loading the model are left out of it, and
  reported apart as seconds.

    python -m bench.ingest FOLDER [--size 1000] [--model efficientnet-lite0] [--untrained]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.listing import Listing
from cluster.pipeline import ACTOR_SHARDS, Pipeline
from cluster.runtime import ray_session
from cluster.shards import Shard
from cluster.stages import EmbedActor, Plan, decode_shard
from simdist.collection import Collection
from simdist.embedding import Model, load_model
from simdist.embedding.backbones import backbone
from simdist.settings import Settings
from simdist.sources import ImageRef, list_folder
from simdist.store import open_store

OUT = Path(__file__).parent / "out" / "ingest.json"
NETWORK_SECONDS = 15.0
SEED = 0


@dataclass(frozen=True)
class Row:
    """One line of the result; rates in images a second."""

    source: str
    model: str
    device: str
    decode_per_s: float
    network_per_s: float
    whole_per_s: float


def main() -> None:
    """Measure each model, print a table and write `bench/out/ingest.json`."""
    options = _options()
    rows = []
    for name in options.model:
        with _sample(options.source, options.size) as folder:
            rows.append(_measure(_model(name, untrained=options.untrained), folder, options))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"\n{'model':32}{'device':16}{'decode/s':>10}{'network/s':>11}{'whole/s':>9}{'':>3}ratio")
    for row in rows:
        print(
            f"{row.model:32}{row.device:16}{row.decode_per_s:10.0f}{row.network_per_s:11.1f}"
            f"{row.whole_per_s:9.1f}{row.whole_per_s / row.network_per_s:8.2f}"
        )
    print(f"written to {OUT}")
