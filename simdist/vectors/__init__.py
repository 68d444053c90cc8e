"""Vectors: checked, turned, packed."""

from simdist.vectors.checks import checked, normalised, usable
from simdist.vectors.rotation import rotated, unrotated

__all__ = ["checked", "normalised", "rotated", "unrotated", "usable"]
