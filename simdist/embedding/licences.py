"""Licences of weights, by the short names that Hugging Face and timm use for them."""

from __future__ import annotations

from simdist.errors import Remedy, UsageError

# As parts of a name between hyphens. Apple's two let nobody but researchers use the weights.
_RESEARCH_ONLY = ("nc", "noncommercial", "research", "amlr", "seer")


def forbids_commerce(licence: str) -> bool:
    """Whether a licence forbids commercial use, by its name: `cc-by-nc-4.0` or `apple-amlr`."""
    return bool(set(licence.lower().replace("_", "-").split("-")) & set(_RESEARCH_ONLY))


def require(licence: str, model: str, *, accepted: bool) -> None:
    """Check that weights may be used.

    Raises:
        UsageError: their licence forbids commercial use, and it has not been accepted.
    """
    if forbids_commerce(licence) and not accepted:
        raise UsageError(
            f"the weights of {model} are under the licence {licence}, which forbids commercial "
            "use: read it, and accept it if your use is allowed, or choose another model",
            remedy=Remedy.LICENCE,
        )
