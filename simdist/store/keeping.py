"""Whether servers keep what they are given, by what they say of themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simdist.errors import StoreError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keeping:
    """What a server, or the nodes of a cluster, may lose.

    Attributes:
        address: where it is, without a password.
        eviction: the policy by which it drops keys when its memory is full; empty where it drops
            none of simdist's.
        forgetful: it keeps no append-only file.
    """

    address: str = ""
    eviction: str = ""
    forgetful: bool = False

    @classmethod
    def of(cls, servers: Sequence[Mapping[str, Any]], address: str) -> Keeping:
        """That of servers, by their INFO."""
        policies = [str(server.get("maxmemory_policy", "")) for server in servers]
        # Others drop only keys that are said to expire.
        eviction = next((policy for policy in policies if policy.startswith("allkeys-")), "")
        return cls(address, eviction, any(not server.get("aof_enabled", 1) for server in servers))

    def require_memory(self) -> None:
        """Check that what is written is kept, also when the memory is full.

        Raises:
            StoreError: keys are dropped then.
        """
        if self.eviction:
            raise StoreError(
                f"Redis at {self.address} drops images when its memory is full "
                f"(maxmemory-policy {self.eviction}): set maxmemory-policy noeviction there, then "
                "run the same command again"
            )

    def warn_of_forgetting(self) -> None:
        """Say so if what has been given since the last save is lost when the server ends."""
        if self.forgetful:
            _log.warning(
                "Redis at %s loses what it has been given when it ends (appendonly no): set "
                "appendonly yes there, or run the same ingest again after each restart",
                self.address,
            )
