"""Is another engine than torch faster on a CPU, and does it find the same?

    python -m bench.engines [MODEL ...] [--photos 1000] [--int8]

On one thread, in images a second of the processor's time, for sixteen images (what an ingest's
actor is given) and one (a query's): torch as simdist runs it, OpenVINO and ONNX Runtime, all in
one process, taking turns. Then what each finds: of photographs from 100 categories of Caltech-101,
how often the nearest of the others is of the same category, precision@10, and the cosines to
torch's float32. Weights that are not installed are random, and find nothing.

    pip install openvino onnxruntime onnx nncf    # not among simdist's extras
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.pixels import DATA, _sample, _scores, _unit
from simdist.embedding import Embedder, Model, load_model
from simdist.embedding.backbones import backbone
from simdist.embedding.embedder import CPU_BATCH
from simdist.embedding.engine import converted
from simdist.embedding.memory import tune_process
from simdist.errors import ModelError
from simdist.images.limits import Pixels

MODELS = ["efficientnet-lite0", "efficientnet-lite2", "resnet34"]
BATCHES = 16, 1
CALIBRATED = 96  # photographs
SECONDS = 1.0  # of each engine in each turn

Engine = Callable[[Pixels], NDArray[np.float32]]


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description="Measure engines beside torch.")
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--int8", action="store_true", help="also in int8, which takes minutes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of tracing
    tune_process()
    able = torch.cpu.get_capabilities()
    units = [name for name in ("avx2", "avx512_vnni", "avx512_bf16", "amx_tile") if able.get(name)]
    print(able.get("cpu_name", "a processor"), *units)
    paths, labels = _sample(DATA / "caltech-101", max(1, options.photos // 100))
    for name in options.models:
        model, trained = _model(name)
        files = paths if trained else paths[:CALIBRATED]
        pixels = np.stack([model.preprocessing.pixels(path.read_bytes()) for path in files])
        engines = _engines(model, pixels[:: len(pixels) // CALIBRATED] if options.int8 else None)
        rates = {batch: _rates(engines, pixels[:batch], options.rounds) for batch in BATCHES}
        vectors = {
            engine: np.concatenate([run(pixels[at : at + 16]) for at in range(0, len(pixels), 16)])
            for engine, run in engines.items()
        }
        exact = vectors["torch float32"]
        print(f"\n{name}, {len(pixels)} photographs" + ("" if trained else ", random weights"))
        for engine, raw in vectors.items():
            rows = _unit(raw)  # int8's have not quite length 1
            speeds = " ".join(f"{rates[batch][engine]:8.1f}" for batch in BATCHES)
            same = (rows * exact).sum(axis=1)
            nearest, _, ten = _scores(rows, labels[: len(rows)])
            found = f"{nearest:.3f} {ten:.3f}" if trained else "-"
            print(f"{engine:22}{speeds}   {same.mean():.4f} {same.min():.4f}   {found}", flush=True)


def _model(name: str) -> tuple[Model, bool]:
    """A model, and whether it has learned anything."""
    try:
        return load_model(name), True
    except ModelError:
        known = backbone(name)
        torch.manual_seed(0)
        weights = known.build().state_dict()
        return Model(known.name, weights, known.preprocessing, known.tap), False


def _engines(model: Model, calibration: Pixels | None) -> dict[str, Engine]:
    import openvino

    exact = Embedder(model, device="cpu", full_precision=True)
    fast = Embedder(model, device="cpu")
    engines: dict[str, Engine] = {"torch float32": exact.embed}
    if fast._dtype != torch.float32:
        engines["torch bfloat16"] = fast.embed
    example = torch.zeros(CPU_BATCH, *[model.preprocessing.size] * 2, 3, dtype=torch.uint8)
    core = openvino.Core()
    graph = converted(exact._forward, example)

    def compiled(graph: Any, precision: str) -> Engine:
        how: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
        done = core.compile_model(graph, "CPU", how)
        return _by_fours(lambda pixels: np.array(done(pixels)[0]))

    engines["OpenVINO float32"] = compiled(graph, "f32")
    engines["OpenVINO bfloat16"] = compiled(graph, "bf16")
    engines["ONNX Runtime float32"] = _onnx_runtime(exact, example)
    if calibration is not None:
        import nncf
        from openvino._offline_transformations import apply_moc_transformations

        # As `openvino.convert_model` does; what compiles a graph does it anyway.
        apply_moc_transformations(graph, cf=False)
        batches = [calibration[at : at + CPU_BATCH] for at in range(0, len(calibration), CPU_BATCH)]
        quantised = nncf.quantize(graph, nncf.Dataset(batches), subset_size=len(batches))
        engines["OpenVINO int8"] = compiled(quantised, "f32")
    return engines


def _onnx_runtime(embedder: Embedder, example: torch.Tensor) -> Engine:
    import onnxruntime

    class Traced(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return embedder._forward(pixels)[0]

    with tempfile.NamedTemporaryFile() as file:
        torch.onnx.export(
            Traced(),
            (example,),
            file.name,
            dynamo=False,
            dynamic_axes={"x": {0: "n"}},
            input_names=["x"],
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file.name, options)
    return _by_fours(lambda pixels: np.array(session.run(None, {"x": pixels})[0]))


def _by_fours(run: Engine) -> Engine:
    """As simdist gives them to torch: a layer's output stays in the processor's cache."""
    return lambda pixels: np.concatenate(
        [run(pixels[at : at + CPU_BATCH]) for at in range(0, len(pixels), CPU_BATCH)]
    )


def _rates(engines: dict[str, Engine], pixels: Pixels, rounds: int) -> dict[str, float]:
    """Images a second of the process's time."""
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for run in engines.values():
        run(pixels)
    for _ in range(rounds):
        for name, run in engines.items():
            done, start = 0, time.process_time()
            while (spent := time.process_time() - start) < SECONDS:
                run(pixels)
                done += len(pixels)
            rates[name].append(done / spent)
    return {name: median(values) for name, values in rates.items()}


if __name__ == "__main__":
    main()
