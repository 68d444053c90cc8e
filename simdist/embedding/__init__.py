"""Images -> embeddings: backbones, the tap, model bundles."""

from simdist.embedding.embedder import Embedder
from simdist.embedding.model import Model, load_model
from simdist.embedding.open_clip_networks import reads_words, require_words
from simdist.embedding.preprocessing import Preprocessing

__all__ = ["Embedder", "Model", "Preprocessing", "load_model", "reads_words", "require_words"]
