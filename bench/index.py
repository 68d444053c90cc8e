"""How good are simdist's hash tables beside every alternative, on real embeddings?

Each system is measured in a process of its own, on one thread, one query at a time; what is
measured, and how, is in `bench.index_measure.Row`. The queries are a thousand embeddings that are
held out of the index. A size greater than there are embeddings is reached by spreading them, which
makes an easy set. Data sets and their exact answers are kept in bench/out. It prints a table, draws
bench/out/index.png and writes bench/out/index.json.

    python -m bench.index [--size N] [--vectors FILE] [--photos FOLDER] [--systems a,b,...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from bench.index_data import OUT, Data, prepare
from bench.index_measure import Measured, MissingError, Row
from bench.index_plot import draw

VECTORS = Path("../shared/data/vectors/caltech-crops-512.npz")
# System -> the module of bench.peers with a function of its name.
SYSTEMS = {
    "simdist-kmeans": "simdist_tables",
    "simdist-hyperplanes": "simdist_tables",
    "simdist-gaussian": "simdist_tables",
    "vector-sets": "vector_sets",
    "hnswlib": "libraries",
    "faiss-hnsw": "libraries",
    "faiss-ivf": "libraries",
    "faiss-lsh": "libraries",
    "svs": "svs",
    "glass": "glass",
    "symphonyqg": "rabitqlib",
    "usearch": "usearch",
    "rabitqlib-ivf": "rabitqlib",
    "scann": "scann",
    "lancedb": "lancedb",
    "exact": "libraries",
    "lshash3": "lshash3",
}
DEFAULT = "simdist-kmeans"
# What BLAS, OpenMP, numba and Lance start their threads by.
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    "LANCE_CPU_THREADS",
)


def main() -> None:
    """Measure every system, one after the other, and report."""
    options = _options()
    folder = prepare(vectors=options.vectors, photos=options.photos, size=options.size)
    data = Data.load(folder)
    (count, dim), real = data.vectors.shape, int(data.real)
    notes = [f"{len(data.queries):,} queries held out of {count:,} vectors of {dim} features"]
    if real < count:
        notes.append(f"an easy set: {count - real:,} vectors were made by spreading {real:,}")
    del data
    measured = Measured(notes=notes)
    for name in options.systems:
        _run(name, folder, measured)
        if not name.startswith("simdist-"):
            _write_again(folder, measured)
        _write(measured, count, dim)
    _print(measured)
    draw(measured.rows, f"{count:,} vectors of {dim} features", OUT / "index.png")
    print(f"written to {OUT / 'index.json'} and index.png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the hash tables beside their peers.")
    parser.add_argument("--size", type=int, help="vectors to index (default: all there are)")
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="an .npz file of embeddings")
    parser.add_argument("--photos", type=Path, help="a folder to embed instead")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="default: %(default)s")
    options = parser.parse_args()
    options.systems = options.systems.split(",")
    if unknown := set(options.systems) - set(SYSTEMS):
        parser.error(f"no such system: {', '.join(sorted(unknown))}")
    return options


def _run(name: str, folder: Path, measured: Measured) -> None:
    """Measure a system in a process of its own, and add what it found."""
    print(name, file=sys.stderr, flush=True)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            found = process.submit(_measure, name, folder).result()
        except MissingError as error:
            measured.notes.append(f"{name} was left out: {error}")
            print(f"  left out: {error}", file=sys.stderr, flush=True)
            return
        except BrokenProcessPool:
            # Peers are compiled for other processors, too.
            measured.notes.append(f"{name} was left out: its process died")
            print("  left out: its process died", file=sys.stderr, flush=True)
            return
    measured.rows += found.rows
    measured.fits += found.fits
    measured.notes += found.notes
    for key, values in found.extra.items():
        measured.extra.setdefault(key, {}).update(values)


def _write_again(folder: Path, measured: Measured) -> None:
    """Measure the default's writing after a peer's, too, and take the mean.

    It takes seconds and a peer's minutes, in which the machine's other tenants come and go.
    """
    ours = [row for row in measured.rows if row.system == DEFAULT]
    if not ours:
        return
    rates = measured.extra.setdefault("write_per_cpu_s", {DEFAULT: [ours[0].write_per_cpu_s]})
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        rates[DEFAULT].append(round(process.submit(_writing, folder).result(), 2))
    print(f"  {DEFAULT} writes {rates[DEFAULT][-1]:,.0f}/s", file=sys.stderr, flush=True)
    mean = round(harmonic_mean(rates[DEFAULT]), 2)
    measured.rows = [
        replace(row, write_per_cpu_s=mean) if row.system == DEFAULT else row
        for row in measured.rows
    ]


def _writing(folder: Path) -> float:
    from bench.peers.simdist_tables import write_again

    return write_again(Data.load(folder))


def _measure(name: str, folder: Path) -> Measured:
    function = getattr(import_module(f"bench.peers.{SYSTEMS[name]}"), name.replace("-", "_"))
    measured: Measured = function(Data.load(folder))
    return measured


def _write(measured: Measured, size: int, dim: int) -> None:
    result: dict[str, Any] = {
        "size": size,
        "dim": dim,
        "rows": [asdict(row) for row in measured.rows],
        "fits": [asdict(fit) for fit in measured.fits],
        **measured.extra,
        "notes": measured.notes,
    }
    (OUT / "index.json").write_text(json.dumps(result, indent=2) + "\n")


def _print(measured: Measured) -> None:
    print(
        f"\n{'system':20}{'setting':21}{'recall':>6}{'others':>7}{'read %':>7}"
        f"{'CPU ms':>8}{'p50 ms':>8}{'p99 ms':>8}{'write/s':>8}{'bytes':>7}"
    )
    for row in measured.rows:
        print(_line(row))
    for fit in measured.fits:
        print(
            f"{fit.system}, {fit.setting}: fitted in {fit.fit_cpu_s:.1f} s of CPU, "
            f"with which it writes {fit.write_with_fit_per_cpu_s:,.0f} vectors a CPU second"
        )
    for key, values in measured.extra.items():
        print(f"{key}: " + "; ".join(f"{name}: {value}" for name, value in values.items()))
    for line in measured.notes:
        print(line)


def _line(row: Row) -> str:
    read = "" if row.rows_read is None else f"{100 * row.rows_read:.2f}"
    return (
        f"{row.system:20}{row.setting:21}{row.recall_at_10:6.3f}"
        f"{row.recall_at_10_other_sources:7.3f}{read:>7}{row.search_cpu_ms:8.3f}"
        f"{row.search_p50_ms:8.3f}{row.search_p99_ms:8.3f}{row.write_per_cpu_s:8.0f}"
        f"{row.bytes_per_vector:7.0f}"
    )


if __name__ == "__main__":
    main()
