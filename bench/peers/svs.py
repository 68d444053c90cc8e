"""Intel's Scalable Vector Search: a graph over vectors that LVQ compresses."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.index_data import Data, Vectors
from bench.index_measure import Measured, MissingError
from bench.peers.in_process import BUILD_EFFORT, EFFORTS, LINKS, Find, InProcess, library

# Bits a feature: those that are searched, and those by which the best are ranked once more.
LEVELS = ((8, 0), (4, 8))


def svs(data: Data) -> Measured:
    """Vamana over LVQ8 and over LVQ4x8."""
    module = library("svs")
    measured = Measured()
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        # It compresses only what it reads from a file.
        file = str(Path(folder) / "vectors.fvecs")
        module.write_vecs(data.vectors, file)
        for bits in LEVELS:
            # Kept, or the next would be measured in the memory that it left.
            kept.append(system := _measure(module, data, file, bits))
            measured.rows += system.measured.rows
            measured.extra.setdefault("open_ms", {}).update(system.measured.extra["open_ms"])
    return measured


def _measure(module: Any, data: Data, file: str, bits: tuple[int, int]) -> InProcess:
    primary, residual = bits
    loader = module.LVQLoader(
        module.VectorDataLoader(file, module.float32, data.vectors.shape[1]), primary, residual
    )
    parameters = module.VamanaBuildParameters(graph_max_degree=2 * LINKS, window_size=BUILD_EFFORT)
    index: Any = None

    def add() -> None:
        nonlocal index
        try:
            index = module.Vamana.build(parameters, loader, module.DistanceType.MIP, num_threads=1)
        except RuntimeError as error:
            raise MissingError(f"its LVQ does not run here: {error}") from error

    def find(query: Vectors, n: int) -> Any:
        return index.search(query, n)[0][0]

    def save(path: str) -> None:
        index.save(*_folders(path))

    def load(path: str) -> Find:
        config, graph, vectors = _folders(path)
        opened = module.Vamana(
            config,
            module.GraphLoader(graph),
            loader.reload_from(vectors),
            module.DistanceType.MIP,
            num_threads=1,
        )
        opened.search_window_size = EFFORTS[0]
        return lambda query, n: opened.search(query, n)[0][0]

    system = InProcess("svs", data, add)
    setting = f"LVQ{primary}x{residual}" if residual else f"LVQ{primary}"
    for effort in EFFORTS:
        index.search_window_size = effort
        system.measure(f"{setting}, window {effort}", find)
    system.measure_opening(setting, save, load)
    return system


def _folders(path: str) -> list[str]:
    return [f"{path}-{part}" for part in ("config", "graph", "vectors")]
