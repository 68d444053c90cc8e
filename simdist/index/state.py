"""The state of a partition: the numbers that Redis keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simdist.store import layout
from simdist.store.damage import count_of

# What these are called in Redis, and what they can be at most; they are in the order of `State`.
FIELDS = {
    "rows": layout.MAX_ROWS,
    "live": layout.MAX_ROWS,
    "epoch": layout.MAX_EPOCH,
    "generation": layout.MAX_GENERATION,
    "fitted": layout.MAX_EPOCH,
    "next": layout.MAX_GENERATION,
    "filled": layout.MAX_ROWS,
    "fill": layout.MAX_ROWS,
    "retired": layout.MAX_GENERATION,
    "skipped": layout.MAX_ROWS,
}


@dataclass(frozen=True)
class State:
    """The state of a partition.

    Attributes:
        rows: row numbers given out so far.
        live: images.
        epoch: changes so far.
        generation: of the tables in use; 0 before the first commit.
        fitted: images that these were fitted for.
        following: generation of the tables that are being filled; 0 for none.
        filled, fill: rows below the one are in these already, of those below the other.
        retired: generation whose tables are to be dropped; 0 for none.
        skipped: rows that had died before the tables in use were filled, which do not have them.
    """

    rows: int
    live: int
    epoch: int
    generation: int
    fitted: int
    following: int
    filled: int
    fill: int
    retired: int
    skipped: int

    @property
    def dead(self) -> int:
        """Rows that the tables in use hold for nothing."""
        return self.rows - self.live - self.skipped

    @classmethod
    def of(cls, values: Sequence[bytes | None], key: str) -> State:
        """The state that is stored as these values of `FIELDS` at a key.

        Raises:
            StoreError: it is damaged.
        """
        return cls(
            *(
                count_of(value or b"0", key, field, most=most)
                for value, (field, most) in zip(values, FIELDS.items(), strict=True)
            )
        )
