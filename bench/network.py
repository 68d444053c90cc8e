"""What each measure taken for the network on a CPU is worth, one added after the other.

Every variant runs in a process of its own, in turns, so that a noisy machine treats all alike.

    python -m bench.network [--rounds 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

MODEL = "efficientnet-lite0"
SECONDS = 5.0
IMAGES = 32


def main() -> None:
    """Print a table: images a second of each variant, and relative to the first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, (processes, variant) in VARIANTS.items():
            rates[name].append(_rate(processes, variant))
            print(f"{name:64}{rates[name][-1]:8.1f}/s", flush=True)
    print()
    first = median(next(iter(rates.values())))
    for name, values in rates.items():
        print(f"{name:64}{median(values):8.1f}/s{median(values) / first:7.2f}")


def _rate(processes: int, variant: Callable[[int], float]) -> float:
    """Images a second of some processes at once that share the cores."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.map(variant, [threads] * processes, chunksize=1))


def _as_loaded(threads: int) -> float:
    import torch

    from simdist.embedding import load_model
    from simdist.embedding.backbones import backbone

    torch.set_num_threads(threads)
    network = backbone(MODEL).build().eval()
    network.load_state_dict(dict(load_model(MODEL).weights))
    inputs = torch.rand(IMAGES, 3, 224, 224)

    def run() -> None:
        with torch.inference_mode():
            network(inputs)

    return _measure(run)


def _embedder(
    threads: int, *, batch: int, keep_memory: bool = False, full_precision: bool = True
) -> float:
    import torch

    from simdist.embedding import Embedder, embedder, load_model
    from simdist.embedding.memory import tune_process

    if keep_memory:
        tune_process()
    torch.set_num_threads(threads)
    embedder.CPU_BATCH = batch
    loaded = Embedder(load_model(MODEL), device="cpu", full_precision=full_precision)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 224, 224, 3), dtype=np.uint8)
    return _measure(lambda: loaded.embed(pixels))


def _folded(threads: int) -> float:
    return _embedder(threads, batch=IMAGES)


def _small_batches(threads: int) -> float:
    return _embedder(threads, batch=4)


def _kept_memory(threads: int) -> float:
    return _embedder(threads, batch=4, keep_memory=True)


def _fast_precision(threads: int) -> float:
    return _embedder(threads, batch=4, keep_memory=True, full_precision=False)


def _measure(run: Callable[[], Any]) -> float:
    run()
    turns, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        run()
        turns += 1
    return IMAGES * turns / (time.perf_counter() - start)


VARIANTS: dict[str, tuple[int, Callable[[int], float]]] = {
    f"batches of {IMAGES}, as loaded, a thread a core": (1, _as_loaded),
    "+ batch norms folded, channels-last": (1, _folded),
    "+ batches of 4": (1, _small_batches),
    "+ freed memory is kept (mallopt)": (1, _kept_memory),
    "+ a single-threaded process a core": (os.cpu_count() or 1, _kept_memory),
    "+ bfloat16, where the CPU multiplies matrices of it": (os.cpu_count() or 1, _fast_precision),
}

if __name__ == "__main__":
    main()
