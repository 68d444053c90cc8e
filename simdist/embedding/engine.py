"""A network run by OpenVINO, which on a CPU is faster than torch and calculates the same."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Pixels -> embeddings, and the network's output.
Forward = Callable[["Tensor"], tuple["Tensor", "Tensor"]]

# "torch" in this variable keeps OpenVINO out.
ENGINE_VARIABLE = "SIMDIST_ENGINE"
# What a faithful conversion has at the least, in bfloat16, and of noise, which is the worst case.
_COSINE = 0.98


def compiled(
    forward: Forward, *, example: Tensor, precision: torch.dtype, threads: int
) -> Forward | None:
    """What `forward` does, by OpenVINO; None where that is not wanted, not there, or not the same.

    Args:
        forward: in float32; takes any number of images and returns tensors of as many rows.
        example: some images.
        precision: what to calculate with, float32 or bfloat16.
        threads: of this process.
    """
    if os.environ.get(ENGINE_VARIABLE) == "torch":
        return None
    try:
        import openvino
    except ImportError:
        return None
    import torch

    try:
        graph = converted(forward, example)
        network = openvino.Core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": {torch.bfloat16: "bf16"}.get(precision, "f32"),
                "INFERENCE_NUM_THREADS": threads,
                # Each process would take the first cores, and leave those of others idle.
                "ENABLE_CPU_PINNING": False,
            },
        )
        request = network.create_infer_request()

        def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
            outputs = request.infer(pixels.numpy())
            rows, scores = (torch.from_numpy(outputs[i].copy()) for i in range(2))
            return rows, scores

        # A conversion may have taken the example's number of images for a constant.
        same = all(_same(forward, run, some) for some in (example, example[:1]))
    except Exception:  # whatever it and torch's tracing raise: torch can run any network
        return None
    return run if same else None


def converted(forward: Forward, example: Tensor) -> Any:
    """A function as OpenVINO's graph, for any number of images.

    By OpenVINO's parts, since `openvino.convert_model` tells its makers that it was called.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    class Traced(torch.nn.Module):
        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
            return forward(pixels)

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that tracing is old, and follows no conditions
        frontend = FrontEndManager().load_by_framework("pytorch")
        # `compiled` checks for itself, and in a tenth of the time.
        unchecked = {"check_trace": False}
        decoder = TorchScriptPythonDecoder(
            Traced(), example_input=(example,), trace_kwargs=unchecked
        )
        graph = frontend.convert(frontend.load(decoder))
    graph.reshape([-1, *example.shape[1:]])
    return graph


def _same(one: Forward, other: Forward, pixels: Tensor) -> bool:
    """Whether two make the same embeddings, which have length 1."""
    import torch

    with torch.inference_mode():
        ours, theirs = one(pixels)[0], other(pixels)[0]
    return ours.shape == theirs.shape and bool((ours * theirs).sum(1).min() > _COSINE)
