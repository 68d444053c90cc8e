"""How fast is ingest, how much of its parts' speed does it reach, and what do its peers reach?

Measured on a seeded sample of a folder, from there and from an S3 endpoint, rclone's, on this same
machine:

- decode: fetching and decoding alone, on all decoders;
- network: the embedding actors alone, on batches that lie ready; right before
  and right after each whole, and averaged, so that a noisy machine treats both alike;
- whole: `cluster.ingest` from the listing to the commit in an embedded server, hash family and
  all, from the first finished shard to the end. What comes before (actors that start and load the
  model) is printed apart, in seconds; starting Ray is in neither.
- core seconds: what this program and all that it started, servers included, spent on an image; of
  a machine that other work shares this says more than rates;
- bound: what is possible where decoding and the network share the cores, 1 / (1/decode + 1/network)
- the peers (`bench.peers`), on the first images of the same sample, from their first batch on. They
  stop at rows of embeddings: they index nothing.

    python -m bench.ingest [FOLDER] [--size 1500] [--rounds 2] [--model NAME] [--untrained]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from unittest.mock import patch

from bench.ingest_parts import Place, Speed, decoding, network, sample, whole
from bench.peers.data_loader import data_loader
from bench.peers.ray_data import ray_data
from cluster.ingest.stages import Placement
from cluster.runtime import ray_session
from simdist.embedding import Model, load_model
from simdist.embedding.backbones import backbone
from simdist.embedding.embedder import fast_precision
from simdist.errors import ModelError
from simdist.settings import Settings
from tests.object_store import CREDENTIALS, FORGOTTEN, serving_folders

OUT = Path(__file__).parent / "out" / "ingest.json"
SOURCE = Path("../shared/data/caltech-101")
# Several batches for each of their workers: from the first on, they are measured.
LEAST_PEER_SIZE = 256
PEERS: dict[str, Callable[[list[str], str, Path], float]] = {
    "DataLoader": data_loader,
    "Ray Data": ray_data,
}


@dataclass(frozen=True)
class Row:
    """One line of the result; rates in images a second.

    Attributes:
        bound_per_s: what the whole can reach; where they share the cores, less than either part.
        decode_core_ms: milliseconds of a core that each image takes, as in what follows it.
        network_of_whole: the network's share of them: what `whole_of_least` is on a quiet machine.
        peers_per_s: from the folder alone.
    """

    when: str
    machine: str
    device: str
    source: str
    place: str
    model: str
    decode_per_s: float
    network_per_s: float
    whole_per_s: float
    whole_of_least: float
    bound_per_s: float
    whole_of_bound: float
    decode_core_ms: float
    network_core_ms: float
    whole_core_ms: float
    network_of_whole: float
    peers_per_s: dict[str, float]


def main() -> None:
    """Measure each model, print a table and add to `bench/out/ingest.json`."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = sample(options.source, options.size, Path(scratch) / "buckets" / "sample")
        with _bucket(folder) as bucket:
            places = [Place("folder", str(folder)), bucket]
            rows = [
                row for name in options.model for row in _measure(options, name, places, scratch)
            ]
    _print(rows)
    OUT.parent.mkdir(exist_ok=True)
    before = json.loads(OUT.read_text()) if OUT.exists() else []
    OUT.write_text(json.dumps([*before, *map(asdict, rows)], indent=2) + "\n")
    print(f"added to {OUT}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the ingest pipeline and its peers.")
    parser.add_argument("source", type=Path, nargs="?", default=SOURCE, help="a folder of images")
    parser.add_argument("--size", type=int, default=1500, help="images in the sample")
    parser.add_argument(
        "--peer-size",
        type=int,
        default=384,
        help=f"of them, for the peers: at least {LEAST_PEER_SIZE}, or 0",
    )
    parser.add_argument("--rounds", type=int, default=2, help="times that each is measured")
    parser.add_argument("--model", action="append", help="may be given more than once")
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="random weights: as fast as the real ones, which are not looked for then",
    )
    options = parser.parse_args()
    if 0 < options.peer_size < LEAST_PEER_SIZE:
        parser.error(f"--peer-size: at least {LEAST_PEER_SIZE}, or 0")
    options.model = options.model or ["resnet34", "efficientnet-lite0"]
    return options


@contextmanager
def _bucket(folder: Path) -> Iterator[Place]:
    """A folder as a bucket at an S3 endpoint, with credentials in the environment."""
    with serving_folders(folder.parent) as url, patch.dict(os.environ, CREDENTIALS):
        for name in FORGOTTEN:
            os.environ.pop(name, None)
        yield Place("S3", f"s3://{folder.name}", url)


def _measure(
    options: argparse.Namespace, name: str, places: list[Place], scratch: str
) -> list[Row]:
    import ray

    model, label = _model(name, untrained=options.untrained)
    print(label, flush=True)
    settings = Settings.resolve()
    wholes: dict[Place, list[Speed]] = {place: [] for place in places}
    networks: dict[Place, list[Speed]] = {place: [] for place in places}
    with ray_session(settings):
        placement = Placement.of(ray.cluster_resources())  # type: ignore[no-untyped-call]
        # Twice: the first time fills caches, also the operating system's.
        decoded = [[decoding(placement, place, model) for place in places] for _ in range(2)][1]
        batches = decoded[0][1]
        before = network(placement, model, batches)
        for _ in range(options.rounds):
            for place in places:
                wholes[place].append(whole(settings, place, model))
                after = network(placement, model, batches)
                networks[place] += [before, after]
                before = after
    peers = _peers(model, places[0].uri, options.peer_size, Path(scratch))
    return [
        _row(
            options.source,
            place.name,
            label,
            placement,
            decode=decode,
            network=_mean(networks[place]),
            whole=_mean(wholes[place]),
            peers=peers,
        )
        for place, (decode, _) in zip(places, decoded, strict=True)
    ]


def _mean(speeds: list[Speed]) -> Speed:
    return Speed(mean(s.per_s for s in speeds), mean(s.core_s for s in speeds))


def _model(name: str, *, untrained: bool) -> tuple[Model, str]:
    """A model, and what to call it: where its weights cannot be had, random ones do."""
    if not untrained:
        try:
            return load_model(name), name
        except ModelError as error:
            print(f"{error}\nrandom weights are as fast: they are measured")
    known = backbone(name)
    model = Model(known.name, known.build().state_dict(), known.preprocessing, known.tap)
    return model, f"{name} (untrained)"


def _peers(model: Model, folder: str, size: int, scratch: Path) -> dict[str, float]:
    """Images a second of each peer, in a process of its own."""
    import torch

    if not size:
        return {}
    weights = scratch / f"{model.backbone}.pth"
    torch.save(dict(model.weights), weights)
    paths = sorted(str(path.resolve()) for path in Path(folder).rglob("*") if path.is_file())[:size]
    rates = {}
    for name, peer in PEERS.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            rates[name] = process.submit(peer, paths, model.backbone, weights).result()
        print(f"  {name} {rates[name]:.1f}/s", flush=True)
    return rates


def _row(
    source: Path,
    place: str,
    model: str,
    placement: Placement,
    *,
    decode: Speed,
    network: Speed,
    whole: Speed,
    peers: dict[str, float],
) -> Row:
    least = min(decode.per_s, network.per_s)
    # A GPU takes the network off the cores: then the slower of the two is the bound.
    bound = least if placement.actor_gpus else 1 / (1 / decode.per_s + 1 / network.per_s)
    kind = "cuda" if placement.actor_gpus else "cpu"
    numbers = str(fast_precision(kind)).removeprefix("torch.")
    return Row(
        when=time.strftime("%Y-%m-%d %H:%M"),
        machine=_machine(),
        device=f"{placement.actors} {'GPU' if placement.actor_gpus else 'CPU threads'}, {numbers}",
        source=source.name,
        place=place,
        model=model,
        decode_per_s=round(decode.per_s, 1),
        network_per_s=round(network.per_s, 1),
        whole_per_s=round(whole.per_s, 1),
        whole_of_least=round(whole.per_s / least, 3),
        bound_per_s=round(bound, 1),
        whole_of_bound=round(whole.per_s / bound, 3),
        decode_core_ms=round(1000 * decode.core_s, 2),
        network_core_ms=round(1000 * network.core_s, 2),
        whole_core_ms=round(1000 * whole.core_s, 2),
        network_of_whole=round(network.core_s / whole.core_s, 3),
        peers_per_s={name: round(rate, 1) for name, rate in peers.items()},
    )


def _machine() -> str:
    """The CPU's name, as `lscpu` has it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor())}, {os.cpu_count()} cores"


def _print(rows: list[Row]) -> None:
    print(f"\n{rows[0].machine}; {rows[0].device}; the peers: 32-bit floats, eager")
    print(
        f"{'model':28}{'from':10}{'decode/s':>9}{'network/s':>10}{'whole/s':>9}{'of least':>9}"
        f"{'bound/s':>9}{'of bound':>9}{'core ms':>9}{'network':>9}"
        + "".join(f"{'x ' + name:>14}" for name in PEERS)
    )
    for row in rows:
        print(
            f"{row.model:28}{row.place:10}{row.decode_per_s:9.0f}{row.network_per_s:10.1f}"
            f"{row.whole_per_s:9.1f}{row.whole_of_least:9.2f}{row.bound_per_s:9.1f}"
            f"{row.whole_of_bound:9.2f}{row.whole_core_ms:9.1f}{row.network_of_whole:9.2f}"
            + "".join(f"{row.whole_per_s / rate:14.1f}" for rate in row.peers_per_s.values())
        )
    print("of least: whole / min(decode, network); x PEER: whole / what the peer does, from files")
    print(
        "core ms: milliseconds of a core that an image takes; network: the network's share of them"
    )


if __name__ == "__main__":
    main()
