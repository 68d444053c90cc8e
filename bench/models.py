"""Write the table of models in docs/models.md: facts from the code, cost and quality measured.

    python -m bench.models [NAME ...] [--fetch] [--keep]

Milliseconds of one thread for an image, as simdist runs the network on this CPU with torch, from
four images at once; where weights are not installed they are random, and cost the same. Quality is
that of `bench.pixels`, on its two sets, for models whose weights are installed (`--fetch`: or can
be downloaded). What was measured is kept in bench/out/models.json, and with `--keep` not measured
again; figures of another processor are not to be mixed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.pixels import DATA, _sample, _scores
from simdist.embedding import Embedder, Model, load_model
from simdist.embedding.aliases import ALIASES
from simdist.embedding.backbone import Backbone
from simdist.embedding.backbones import BACKBONES, backbone
from simdist.embedding.memory import tune_process
from simdist.errors import ModelError

OUT = Path(__file__).parent / "out" / "models.json"
PAGE = Path(__file__).parent.parent / "docs" / "models.md"
BEGIN, END = "<!-- made by `make models` -->", "<!-- end of what it made -->"
SETS = "caltech-101", "grocery"
EACH = 20  # photographs of each category
SECONDS = 1.0
NAMES = [*BACKBONES, *ALIASES]
HEAD = """\
| name | embedding | pixels | weights | licence | ms | Caltech-101 | groceries |
| --- | ---: | ---: | --- | --- | ---: | --- | --- |
"""


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description="Write the table of docs/models.md.")
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--fetch", action="store_true", help="try to download weights")
    parser.add_argument("--keep", action="store_true", help="measure only what was not yet")
    options = parser.parse_args()
    tune_process()
    measured: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.parent.mkdir(exist_ok=True)
    for name in options.names:
        if not (options.keep and name in measured):
            measured[name] = _measured(name, fetch=options.fetch)
            print(name, measured[name], flush=True)
            OUT.write_text(json.dumps(measured, indent=1))
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    rows = "".join(_row(name, backbone(name), measured.get(name, {})) for name in NAMES)
    PAGE.write_text(f"{before}{BEGIN}\n\n{HEAD}{rows}\n{END}{after}")


def _measured(name: str, *, fetch: bool) -> dict[str, Any]:
    known = backbone(name)
    model = None
    if fetch or name.startswith("efficientnet-lite"):
        try:
            model = load_model(name, accept_licence=True)
        except ModelError as error:
            print(error)
    scores = [] if model is None else [_quality(model, DATA / folder) for folder in SETS]
    if model is None:
        torch.manual_seed(0)
        weights = known.build().state_dict()
        model = Model(known.name, weights, known.preprocessing, known.tap)
    return {"ms": _cost(Embedder(model, device="cpu")), "scores": scores}


def _cost(embedder: Embedder) -> float:
    """Milliseconds of an image."""
    size = embedder.model.preprocessing.size
    shape = (embedder.batch, size, size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    embedder.embed(pixels)
    spent: list[float] = []
    while len(spent) < 2 or sum(spent) < SECONDS:
        start = time.process_time()
        embedder.embed(pixels)
        spent.append(time.process_time() - start)
    return 1000 * median(spent) / len(pixels)


def _quality(model: Model, folder: Path) -> Sequence[float]:
    """The nearest neighbour is of the same category, precision@5, precision@10."""
    paths, labels = _sample(folder, EACH)
    return _scores(Embedder(model, device="cpu").embed_files(paths), labels)


def _row(name: str, known: Backbone, measured: dict[str, Any]) -> str:
    if name in ALIASES:
        weights = f"`{ALIASES[name]}`"
    elif name.startswith("efficientnet-lite"):
        weights = "installed"
    else:
        weights = "Meta's, a file" if name == "sscd" else "torchvision's"
    spent = measured.get("ms")
    took = "" if spent is None else f"{spent:,.{0 if spent >= 100 else 1}f}"
    scores = [" ".join(f"{score:.3f}"[1:] for score in three) for three in measured["scores"]]
    cells = [
        f"`{name}`",
        f"{known.dim:,}",
        str(known.preprocessing.size),
        weights,
        known.licence or "not said",
        took,
        *(scores or ["-", "-"]),
    ]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
