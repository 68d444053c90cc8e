"""A peer of ingest: a plain Ray Data script, read -> decode -> embed -> rows."""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.peers.plain import Plain, prepare
from cluster.runtime import ray_session
from simdist.embedding.backbones import backbone
from simdist.settings import Settings

BATCH = 64


def ray_data(paths: list[str], model: str, weights: Path) -> float:
    """Images a second, from when each embedder has done its first batch."""
    # What Ray Data says of its progress; and a warning about each actor, from Ray's C++.
    logging.disable()
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    with ray_session(Settings.resolve()):
        import ray

        # An embedder a core, as simdist has it; half a logical CPU each leaves room to read.
        embedders = os.cpu_count() or 1
        rows = (
            ray.data.read_binary_files(
                paths, include_paths=True, override_num_blocks=-(-len(paths) // BATCH)
            )
            .map_batches(partial(_decode, model=model), batch_size=BATCH)
            .map_batches(
                _Embed,
                batch_size=BATCH,
                fn_constructor_args=(model, weights),
                compute=ray.data.ActorPoolStrategy(size=embedders),
                num_cpus=0.5,
            )
            .take_all()
        )
    # By the embedders' clocks: rows come here a block at a time.
    times: list[float] = sorted(row["time"] for row in rows)
    start = times[BATCH * embedders - 1]
    return sum(at > start for at in times) / (times[-1] - start)


def _decode(batch: dict[str, Any], *, model: str) -> dict[str, Any]:
    preprocessing = backbone(model).preprocessing
    images = [prepare(data, preprocessing).numpy() for data in batch["bytes"]]
    return {"path": batch["path"], "image": np.stack(images)}


class _Embed:
    def __init__(self, model: str, weights: Path) -> None:
        self._embed = Plain(model, weights)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        vectors = self._embed(torch.tensor(batch["image"])).numpy()
        return {"path": batch["path"], "vector": vectors, "time": [time.time()] * len(vectors)}
