"""Hash families: vectors -> buckets."""

from simdist.hashing.codec import dump_family, load_family
from simdist.hashing.family import HashFamily
from simdist.hashing.fitting import FAMILIES, fit_family, sample_size
from simdist.hashing.gaussian import GaussianFamily
from simdist.hashing.hyperplanes import HyperplanesFamily
from simdist.hashing.kmeans import KMeansFamily

__all__ = [
    "FAMILIES",
    "GaussianFamily",
    "HashFamily",
    "HyperplanesFamily",
    "KMeansFamily",
    "dump_family",
    "fit_family",
    "load_family",
    "sample_size",
]
