"""A peer of ingest: the loop that every user of PyTorch has written, on a `DataLoader`."""

from __future__ import annotations

import time
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.peers.plain import Plain, prepare
from simdist.embedding.backbones import backbone

BATCH = 64
WORKERS = 2


def data_loader(paths: list[str], model: str, weights: Path) -> float:
    """Images a second from the first embedded batch on: decoded by workers, embedded here."""
    embed = Plain(model, weights)
    rows: list[tuple[str, Tensor]] = []
    first = 0.0
    for names, images in DataLoader(_Photos(paths, model), BATCH, num_workers=WORKERS):
        rows += zip(names, embed(images), strict=True)
        first = first or time.perf_counter()
    return (len(rows) - BATCH) / (time.perf_counter() - first)


class _Photos(Dataset[tuple[str, Tensor]]):
    def __init__(self, paths: list[str], model: str) -> None:
        self._paths, self._preprocessing = paths, backbone(model).preprocessing

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[str, Tensor]:
        path = self._paths[row]
        return path, prepare(Path(path).read_bytes(), self._preprocessing)
