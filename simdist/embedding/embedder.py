"""Pixels -> embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.embedding import engine
from simdist.embedding.folding import fold_batch_norms
from simdist.embedding.model import Model, load_model, misfit
from simdist.embedding.open_clip_networks import require_words
from simdist.embedding.staging import Stage, Staged
from simdist.embedding.texts import TextEmbedder
from simdist.errors import ModelError, UsageError
from simdist.images.limits import Pixels

if TYPE_CHECKING:
    import torch

# Images put through the network at once. On a CPU few, so that a layer's output stays in the
# cache (measured: docs/performance.md); on a GPU many, so that it is never idle.
CPU_BATCH = 4
GPU_BATCH = 256


class Embedder:
    """A model on a device, ready to embed.

    >>> embedder = Embedder.load("efficientnet-lite0")
    >>> vectors = embedder.embed_files([Path("a.jpg"), Path("b.jpg")])
    >>> vectors.shape, str(vectors.dtype)
    ((2, 1280), 'float32')
    >>> print(f"{vectors[0] @ vectors[1]:.1f}")  # their cosine similarity
    0.3

    The embedding is the output of the layer `model.tap`, taken with a forward hook, flattened
    and L2-normalised. One embedder is for one thread.

    Attributes:
        batch: images that are put through the network at once.
        engine: what calculates: "torch" or "OpenVINO".
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str | None = None,
        full_precision: bool = False,
        for_many: bool = False,
    ) -> None:
        """Put a model on a device.

        Args:
            device: "cpu", "cuda", or by default a GPU where there is one.
            full_precision: calculate in float32 even where less is faster and finds the same
                (`fast_precision`).
            for_many: on a CPU, have OpenVINO run the network where that is installed: twice as
                fast, and loaded a second later.

        Raises:
            ModelError: its weights or its tap do not fit its backbone.
        """
        import torch

        self.model = model
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        network = model.network()
        layer, _, side = model.tap.partition(":")
        try:
            tap = network.get_submodule(layer)
        except AttributeError as error:
            raise misfit(model, error) from error
        if self.device == "cpu":
            size = model.preprocessing.size
            fold_batch_norms(network, torch.zeros(1, 3, size, size))
        self.batch = CPU_BATCH if self.device == "cpu" else GPU_BATCH
        self._dtype = torch.float32
        self._network = network.to(self.device).to(memory_format=torch.channels_last)
        self._stage = Stage(self.device)
        self._tapped: torch.Tensor | None = None
        self._texts: TextEmbedder | None = None
        if side == "input":
            tap.register_forward_pre_hook(self._keep_input)
        else:
            tap.register_forward_hook(self._keep)
        self._mean = torch.tensor(model.preprocessing.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(model.preprocessing.std, device=self.device).view(1, 3, 1, 1)
        self._run: engine.Forward = self._forward
        self.engine = "torch"
        precision = self._dtype if full_precision else fast_precision(self.device)
        if for_many and self.device == "cpu":
            self._let_openvino_run(precision)
        self._dtype = precision
        network.to(precision)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        weights: Path | None = None,
        accept_licence: bool = False,
        device: str | None = None,
    ) -> Embedder:
        """Load a model as `load_model` does, and put it on a device.

        Raises:
            UsageError: no such name; or a licence that must be accepted, and is not.
            ModelError: the weights cannot be downloaded, read, or do not fit.
        """
        model = load_model(name, weights=weights, accept_licence=accept_licence)
        return cls(model, device=device)

    def embed_images(self, images: Iterable[bytes]) -> NDArray[np.float32]:
        """Decode and embed images.

        Args:
            images: the bytes of image files.

        Returns:
            (n, dim) float32, each row of length 1.

        Raises:
            ImageError: one of them is not an acceptable image.
        """
        size = self.model.preprocessing.size
        pixels = [self.model.preprocessing.pixels(data) for data in images]
        return self.embed(np.array(pixels, np.uint8).reshape(-1, size, size, 3))

    def embed_files(self, paths: Iterable[Path]) -> NDArray[np.float32]:
        """As `embed_images`, of files.

        Raises:
            ImageError: one of them is not an acceptable image.
            OSError: one of them cannot be read.
        """
        return self.embed_images(path.read_bytes() for path in paths)

    def stage(self, pixels: Pixels) -> Staged:
        """Begin to bring decoded images to the device, for `embed`; another thread may embed.

        Raises:
            UsageError: pixels of another shape or type.
        """
        size = self.model.preprocessing.size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise UsageError(
                f"pixels must be (n, {size}, {size}, 3) uint8, not {pixels.shape} {pixels.dtype}: "
                "make them with the model's preprocessing.pixels"
            )
        return self._stage.put(pixels)

    def embed(self, pixels: Pixels | Staged) -> NDArray[np.float32]:
        """Embed decoded images.

        Args:
            pixels: (n, size, size, 3) uint8, as `model.preprocessing.pixels` makes them; or what
                `stage` returned.

        Returns:
            (n, dim) float32, each row of length 1.

        Raises:
            UsageError: pixels of another shape or type.
            ModelError: the tapped layer's output is not what the backbone promises.
        """
        vectors = [rows.cpu().numpy() for rows, _ in self._batches(pixels)]
        return np.concatenate([np.empty((0, self.model.dim), np.float32), *vectors])

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed words, where the model reads them.

        Returns:
            (n, dim) float32, each row of length 1: near the images that show what it says.

        Raises:
            UsageError: the model reads no words.
            ModelError: its tower of words cannot be loaded.
        """
        require_words(self.model.id)
        if self._texts is None and self.model.text is not None:
            self._texts = TextEmbedder(self.model.text, device=self.device)
        if self._texts is None:
            raise ModelError(f"the model {self.model.id} was loaded without its tower of words")
        return self._texts.embed(texts)

    def classify(self, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embed decoded images, and say what a model with classes takes them for.

        Returns:
            What `embed` returns, and (n, classes) float32: a score for each of `model.classes`.

        Raises:
            UsageError, ModelError: as `embed`.
        """
        vectors, scores = [], []
        for rows, outputs in self._batches(pixels):
            vectors.append(rows.cpu().numpy())
            scores.append(outputs.float().cpu().numpy())
        return np.concatenate(vectors), np.concatenate(scores)

    def _batches(self, pixels: Pixels | Staged) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What `_forward` returns, some images at a time."""
        import torch

        for part in self._parts(pixels):
            done = 0
            while done < len(part):
                batch = part[done : done + self.batch]
                try:
                    with torch.inference_mode():
                        both = self._run(batch)
                except torch.OutOfMemoryError:
                    if self.batch == 1:
                        raise
                    # From now on as many as this GPU's memory has room for.
                    self.batch //= 2
                    continue
                yield both
                done += len(batch)

    def _parts(self, pixels: Pixels | Staged) -> Iterator[torch.Tensor]:
        """Pixels on the device; while the network has some, the next are on their way."""
        if isinstance(pixels, Staged):
            yield pixels.wait()
            return
        step = self.batch
        ahead = self.stage(pixels[:step])
        for done in range(step, len(pixels), step):
            part, ahead = ahead, self.stage(pixels[done : done + step])
            yield part.wait()
        yield ahead.wait()

    def _let_openvino_run(self, precision: torch.dtype) -> None:
        import torch

        size = self.model.preprocessing.size
        noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
        run = engine.compiled(
            self._forward,
            example=torch.from_numpy(noise),
            precision=precision,
            threads=torch.get_num_threads(),
        )
        if run is not None:
            self._run, self.engine = run, "OpenVINO"
            self._network.to("meta")  # frees its weights: OpenVINO has its own

    def _forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, size, size, 3) uint8 -> (n, dim) float32 embeddings, and the network's output."""
        from torch.nn.functional import normalize

        # A transposed view of channels-last pixels is already in the network's memory format.
        inputs = batch.permute(0, 3, 1, 2).float()
        inputs = (inputs - self._mean) / self._std
        outputs = self._network(inputs.to(self._dtype))
        if self._tapped is None:
            raise ModelError(f"the layer {self.model.tap} was not reached")
        tapped, self._tapped = self._tapped, None
        rows = tapped.flatten(1)
        if rows.shape[1] != self.model.dim:
            raise ModelError(
                f"the layer {self.model.tap} puts out {rows.shape[1]} numbers an image, "
                f"not {self.model.dim}: it cannot be the tap of a {self.model.backbone}"
            )
        return normalize(rows.float(), dim=1), outputs

    def _keep(self, _layer: object, _inputs: object, output: torch.Tensor) -> None:
        self._tapped = output

    def _keep_input(self, _layer: object, inputs: tuple[torch.Tensor, ...]) -> None:
        self._tapped = inputs[0]


def fast_precision(device: str) -> torch.dtype:
    """The numbers to calculate with: bfloat16 where the device multiplies them.

    That is a CPU with AMX or AVX-512's BF16: two to four times as fast, and it finds the same
    images (docs/performance.md); and a GPU since NVIDIA's Ampere. Others calculate in float16,
    whose numbers end at 65,504, and other CPUs in float32.
    """
    import torch

    if device != "cpu":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if able else torch.float16
    units = torch.cpu.get_capabilities()
    fast = units.get("amx_bf16") or units.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32
