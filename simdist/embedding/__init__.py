"""Images -> embeddings: backbones, the tap, model bundles."""

from simdist.embedding.backbones import Preprocessing
from simdist.embedding.embedder import Embedder
from simdist.embedding.model import Model, load_model

__all__ = ["Embedder", "Model", "Preprocessing", "load_model"]
