"""Images that a source names more than once: the last time counts, in this run and in all later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simdist.index.images import Version
from simdist.sources import ImageRef
from simdist.store import layout

# References that wait for the end of the listing, since they may be named again.
MAX_HELD = 200_000
# Bits that say which images have been met, four for each: of 10 million one in two hundred is taken
# for one that was, and waits for nothing.
_BITS = 1 << 27
_WORDS = 3  # numbers of 4 bytes in a URI's digest


class Repeats:
    """Tells which of a source's images can go on, and which wait until all is listed.

    What is new goes on at once. What would replace something waits: the source may name it again,
    as it is indexed already. So does what has gone on before in this run.

    Attributes:
        count: entries that named an image once more.
        last: by URI the fingerprint of what was sent at the end, for what went on before it.
    """

    def __init__(self) -> None:
        """Nothing is met yet."""
        self.count = 0
        self.last: dict[str, str] = {}
        self._met = np.zeros(_BITS // 8, np.uint8)
        self._held: dict[str, ImageRef] = {}

    def sift(self, refs: Sequence[ImageRef], versions: NDArray[np.uint8]) -> list[ImageRef]:
        """The images that go on now.

        Args:
            versions: of each what the collection has, a `Version`.
        """
        last = {ref.uri: i for i, ref in enumerate(refs)}
        self.count += len(refs) - len(last)
        chosen = sorted(last.values())
        met = self._meet([refs[i].uri for i in chosen])
        going = []
        for i, before in zip(chosen, met.tolist(), strict=True):
            ref, is_held = refs[i], refs[i].uri in self._held
            self.count += before or is_held
            if versions[i] == Version.SAME:
                self._held.pop(ref.uri, None)
            elif is_held or before or versions[i] == Version.OTHER:
                self._held.pop(ref.uri, None)
                self._held[ref.uri] = ref
            else:
                going.append(ref)
        return going

    def __len__(self) -> int:
        """How many wait."""
        return len(self._held)

    @property
    def is_full(self) -> bool:
        """Whether more wait than should."""
        return len(self._held) >= MAX_HELD

    def rest(self) -> list[ImageRef]:
        """The images that waited."""
        held = list(self._held.values())
        self._held.clear()
        self.last = {ref.uri: ref.fingerprint for ref in held}
        return held

    def is_superseded(self, ref: ImageRef) -> bool:
        """Whether the source named an image once more, behind this."""
        return self.last.get(ref.uri, ref.fingerprint) != ref.fingerprint

    def _meet(self, uris: Sequence[str]) -> NDArray[np.bool_]:
        """Which images may have been met before, as good as certainly; all have been from now."""
        if not uris:
            return np.zeros(0, np.bool_)
        digests = b"".join(layout.uri_digest(uri)[: 4 * _WORDS] for uri in uris)
        words = np.frombuffer(digests, "<u4").reshape(-1, _WORDS)
        # A fourth from the other bits of all.
        mixed = (words[:, 0] >> 27) | (words[:, 1] >> 27) << 5 | (words[:, 2] >> 16) << 10
        places = np.column_stack((words, mixed)) % _BITS
        bits = np.left_shift(1, places & 7).astype(np.uint8)
        met: NDArray[np.bool_] = ((self._met[places >> 3] & bits) != 0).all(axis=1)
        np.bitwise_or.at(self._met, places >> 3, bits)
        return met
