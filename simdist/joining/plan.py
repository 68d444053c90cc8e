"""Which neighbours are wanted, and all that they follow from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from simdist.errors import UsageError

MAX_K = 1000


@dataclass(frozen=True)
class Wanted:
    """Which neighbours an image gets.

    Attributes:
        k: at most so many.
        recall: the share of the true ones that is found at least, measured with a sample.
        min_score, max_score: cosines from the one on, and below the other.
        same_label: only those with the image's own label.
        no_duplicates: none that is in one group with the image (`groups_of_same`).
    """

    k: int = 20
    recall: float = 0.95
    min_score: float = -1.0
    max_score: float = 2.0
    same_label: bool = False
    no_duplicates: bool = False

    def __post_init__(self) -> None:
        """Check that it makes sense.

        Raises:
            UsageError: it does not.
        """
        if not 1 <= self.k <= MAX_K:
            raise UsageError(f"an image has 1 to {MAX_K:,} neighbours, not {self.k:,}")
        if not 0 < self.recall <= 1:
            raise UsageError(f"a recall is above 0 and at most 1, not {self.recall:g}")


@dataclass(frozen=True)
class Plan:
    """All that the neighbours in a collection follow from: equal plans give equal ones.

    Attributes:
        collection: its name.
        generation: of the hash tables that the buckets are from; 0 for buckets of their own.
        near: how many buckets each is compared with; 0 for all.
        recall: what that finds of a sample's true neighbours.
        born, epochs, rows: of the partitions (`Whole`).
        groups: a digest of the groups of duplicates, where they are left out.
    """

    collection: str
    model_id: str
    wanted: Wanted
    generation: int
    near: int
    recall: float
    born: tuple[str, ...]
    epochs: tuple[int, ...]
    rows: tuple[int, ...]
    groups: str = ""

    def as_json(self) -> dict[str, Any]:
        """As it is written beside the neighbours."""
        fields = asdict(self)
        return fields | {name: list(fields[name]) for name in ("born", "epochs", "rows")}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Plan:
        """As it was written.

        Raises:
            ValueError, TypeError, KeyError: it is damaged.
        """
        lists: dict[str, tuple[Any, ...]]
        lists = {name: tuple(map(int, fields[name])) for name in ("epochs", "rows")}
        lists["born"] = tuple(map(str, fields["born"]))
        return cls(**fields | lists | {"wanted": Wanted(**fields["wanted"])})

    def goes_on_from(self, earlier: Plan) -> bool:
        """Whether only what has changed since needs to be compared."""
        then = replace(earlier, recall=self.recall, epochs=self.epochs, rows=self.rows)
        # Buckets of their own follow from all vectors, as groups do, and are others now.
        return then == self and (self.generation > 0 or not self.near) and not self.groups
