"""Words -> embeddings, beside those of the images that show what they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simdist.embedding.open_clip_networks import TextTower, text_network, tokenizer

# Texts put through the tower at once.
_BATCH = 64


class TextEmbedder:
    """A tower of words on a device, ready to embed. For one thread."""

    def __init__(self, tower: TextTower, *, device: str) -> None:
        """Put it there.

        Raises:
            ModelError: its weights or its tokenizer cannot be had, or do not fit.
        """
        self._device = device
        self._tokenize = tokenizer(tower)
        self._network = text_network(tower).to(device)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n,) texts -> (n, dim) float32, each row of length 1; what is too long is cut."""
        import torch
        from torch.nn.functional import normalize

        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                tokens = self._tokenize(list(texts[start : start + _BATCH])).to(self._device)
                found.append(normalize(self._network(tokens).float(), dim=1).cpu().numpy())
        return np.concatenate(found)
