"""How fast is ingest, and how much of the network's own speed does it reach?

Measured on a seeded sample of a folder, with the same actors, threads and allocator throughout:

- decode: fetching and decoding alone, on all decoders;
- network: the embedding actors alone, on batches that lie ready; before, between and after the
  rounds of the whole, and averaged, so that a noisy machine treats both alike;
- whole: `cluster.ingest` from the listing to the commit in an embedded server, hash family and
  all, from the first finished shard to the end. What comes before (actors that start and load the
  model) is reported apart, in seconds; starting Ray is in neither.

    python -m bench.ingest [FOLDER] [--size 2000] [--rounds 2] [--model NAME] [--untrained]
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from cluster.ingest import ingest
from cluster.pipeline import ACTOR_SHARDS
from cluster.progress import Progress
from cluster.runtime import ray_session
from cluster.shards import Shard
from cluster.stages import EmbedActor, Plan, decode_shard
from simdist.collection import Collection
from simdist.embedding import Model, load_model
from simdist.embedding.backbones import backbone
from simdist.settings import Settings
from simdist.sources import ImageRef, list_folder, open_source, uri_path
from simdist.store import open_store

OUT = Path(__file__).parent / "out" / "ingest.json"
SOURCE = Path("../shared/data/caltech-101")
NETWORK_SECONDS = 15.0
READY_SHARDS = 16
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
    rows = [_measure(options, name) for name in options.model]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(
        f"\n{'model':30}{'device':>24}{'decode/s':>10}{'network/s':>11}{'whole/s':>9}{'ratio':>7}"
    )
    for row in rows:
        print(
            f"{row.model:30}{row.device:>24}{row.decode_per_s:10.0f}{row.network_per_s:11.1f}"
            f"{row.whole_per_s:9.1f}{row.whole_per_s / row.network_per_s:7.2f}"
        )
    print(f"written to {OUT}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the ingest pipeline.")
    parser.add_argument("source", type=Path, nargs="?", default=SOURCE, help="a folder of images")
    parser.add_argument("--size", type=int, default=2000, help="images in the sample")
    parser.add_argument("--rounds", type=int, default=2, help="times that each is measured")
    parser.add_argument("--model", action="append", help="may be given more than once")
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="random weights: as fast as the real ones, for where those cannot be downloaded",
    )
    options = parser.parse_args()
    options.model = options.model or ["efficientnet-lite0"]
    return options


def _measure(options: argparse.Namespace, name: str) -> Row:
    import ray

    model = _model(name, untrained=options.untrained)
    label = f"{name} (untrained)" if options.untrained else name
    with tempfile.TemporaryDirectory() as scratch:
        folder = sample(options.source, options.size, Path(scratch) / "sample")
        settings = Settings.resolve()
        with ray_session(settings):
            plan = Plan.of(ray.cluster_resources())  # type: ignore[no-untyped-call]
            decode_per_s, batches = _decode(plan, folder, model)
            print(f"{label}\n  decode {decode_per_s:.0f}/s", flush=True)
            network = [_network(plan, model, batches)]
            whole = []
            for _ in range(options.rounds):
                whole.append(_whole(settings, folder, model))
                network.append(_network(plan, model, batches))
    device = f"{plan.actors} GPU" if plan.actor_gpus else f"{plan.actors} CPU threads"
    return Row(
        str(options.source),
        label,
        device,
        round(decode_per_s, 1),
        round(mean(network), 1),
        round(mean(whole), 1),
    )


def _model(name: str, *, untrained: bool) -> Model:
    if not untrained:
        return load_model(name)
    known = backbone(name)
    return Model(known.name, known.build().state_dict(), known.preprocessing, known.tap)


def sample(source: Path, size: int, folder: Path) -> Path:
    """A folder of links to some of a folder's images."""
    images = sorted(ref.uri for ref in list_folder(source) if isinstance(ref, ImageRef))
    for uri in random.Random(SEED).sample(images, min(size, len(images))):
        path = uri_path(uri)
        link = folder / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


def _decode(plan: Plan, folder: Path, model: Model) -> tuple[float, list[tuple[Shard, Any]]]:
    """Images decoded a second, and some shards with their pixels in Ray's object store."""
    import ray

    refs = [ref for ref in list_folder(folder) if isinstance(ref, ImageRef)]
    shards = [
        Shard(tuple(refs[start : start + plan.shard])) for start in range(0, len(refs), plan.shard)
    ]
    task: Any = ray.remote(num_cpus=plan.decoder_cpus, num_returns=2)
    decode: Any = task(decode_shard)
    size = model.preprocessing.size

    def run() -> list[tuple[Any, Any]]:
        outcomes = [decode.remote(shard, size=size) for shard in shards]
        ray.wait([done for done, _ in outcomes], num_returns=len(outcomes))
        return outcomes

    run()  # starts the workers and warms the page cache
    start = time.perf_counter()
    outcomes = run()
    seconds = time.perf_counter() - start
    ready = [(ray.get(done), pixels) for done, pixels in outcomes[:READY_SHARDS]]
    return len(refs) / seconds, ready


def _network(plan: Plan, model: Model, batches: list[tuple[Shard, Any]]) -> float:
    """Images embedded a second by the actors alone."""
    import ray

    actor_class: Any = ray.remote(num_cpus=plan.actor_cpus, num_gpus=plan.actor_gpus)(EmbedActor)
    actors = [actor_class.remote() for _ in range(plan.actors)]
    weights = ray.put(model)
    ray.get([actor.load.remote(weights) for actor in actors])
    turns = itertools.cycle(batches)
    pending = {
        actor.embed.remote(*next(turns)): actor for actor in actors for _ in range(ACTOR_SHARDS)
    }
    done, start = 0, 0.0
    while not start or time.perf_counter() - start < NETWORK_SECONDS:
        (ref,), _ = ray.wait(list(pending))
        actor = pending.pop(ref)
        pending[actor.embed.remote(*next(turns))] = actor
        if start:
            done += len(ray.get(ref)[1])
        else:
            start = time.perf_counter()
    rate = done / (time.perf_counter() - start)
    for actor in actors:
        ray.kill(actor)
    print(f"  network {rate:.1f}/s", flush=True)
    return rate


def _whole(settings: Settings, folder: Path, model: Model) -> float:
    """Images ingested a second, once the first is."""
    first: Progress | None = None

    def note(progress: Progress) -> None:
        nonlocal first
        if first is None and progress.done:
            first = progress

    # An empty data folder each time: an embedded server of its own.
    with (
        # The server may still be writing as it stops.
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data_dir,
        open_store(replace(settings, redis_url=None, data_dir=Path(data_dir))) as store,
    ):
        collection = Collection.ensure(store, "bench", model=model)
        summary = ingest(
            open_source(str(folder)),
            collection=collection,
            model=model,
            settings=settings,
            on_progress=note,
        )
    assert first is not None, summary
    rate = (summary.added - first.done) / (summary.seconds - first.seconds)
    print(
        f"  whole {rate:.1f}/s; {summary.added} images in {summary.seconds:.1f} s, "
        f"the first after {first.seconds:.1f} s; {summary.failed} failed",
        flush=True,
    )
    return rate


if __name__ == "__main__":
    main()
