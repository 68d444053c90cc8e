"""Vectors: checked, turned, packed."""

from simdist.vectors.checks import checked, checked_normalised, normalised, usable
from simdist.vectors.rotation import rotated, unrotated

__all__ = ["checked", "checked_normalised", "normalised", "rotated", "unrotated", "usable"]
