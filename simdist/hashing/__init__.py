"""Hash families: vectors -> buckets."""

from simdist.hashing.codec import dump_family, load_family
from simdist.hashing.family import HashFamily
from simdist.hashing.gaussian import GaussianFamily
from simdist.hashing.kmeans import KMeansFamily

__all__ = ["GaussianFamily", "HashFamily", "KMeansFamily", "dump_family", "load_family"]
