"""What a service is told when it is started."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.service.rights import Rights
from simdist.errors import Remedy, UsageError
from simdist.search.searcher import CACHE_MEMORY, MAX_STALENESS
from simdist.settings import DEFAULT_COLLECTION, REDIS_URL_VARIABLE, Settings
from simdist.sources.originals import root_uri

# The name of the Serve application.
APPLICATION = "simdist"
READ_TOKENS_VARIABLE = "SIMDIST_READ_TOKENS"
WRITE_TOKENS_VARIABLE = "SIMDIST_WRITE_TOKENS"
TOKENS_FILE_VARIABLE = "SIMDIST_TOKENS_FILE"
# For tests, whose web server is on this machine; no option, so that nobody takes it for one.
FETCH_LOOPBACK_VARIABLE = "SIMDIST_FETCH_LOOPBACK"
MIN_TOKEN = 16
# Not "*": without tokens any page would search, and write.
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")


@dataclass(frozen=True)
class Tokens:
    """The SHA-256 digests, in hex, of the bearer tokens that may read, and of those that may write.

    Only digests: a service's settings can be seen by whoever can see its Ray cluster.

    Attributes:
        only: of tokens that may not do so with all collections, "read" or "write", the digest, and
            the names of those collections.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    only: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.read or self.write)

    @classmethod
    def resolve(cls, file: Path | None = None) -> Tokens:
        """The tokens of a file, and of the environment (separated by commas).

        Without a file here, it is the one that the environment names, if any. Each of its lines is
        `read TOKEN` or `write TOKEN`; a write token may read, too. Behind a token may be names of
        collections, with commas between them, to which it is limited; it may have several lines.

        Raises:
            UsageError: the file cannot be read or is not like that, or a token is short.
        """
        found = [
            (kind, token.strip(), "")
            for kind, variable in (("read", READ_TOKENS_VARIABLE), ("write", WRITE_TOKENS_VARIABLE))
            for token in os.environ.get(variable, "").split(",")
            if token.strip()
        ]
        if file is None and os.environ.get(TOKENS_FILE_VARIABLE):
            file = Path(os.environ[TOKENS_FILE_VARIABLE])
        if file is not None:
            for number, line in enumerate(_lines(file), start=1):
                kind, token, names, *more = [*line.split(), "", "", ""]
                if not kind or kind.startswith("#"):
                    continue
                if kind not in ("read", "write") or not token or any(more):
                    raise UsageError(
                        f"line {number} of {file} is neither 'read TOKEN' nor 'write TOKEN', nor "
                        "one of these with names of collections, such as 'read TOKEN shop,photos'"
                    )
                found.append((kind, token, names))
        return cls(
            _digests([token for kind, token, _ in found if kind == "read"]),
            _digests([token for kind, token, _ in found if kind == "write"]),
            tuple(
                (kind, token_digest(token), tuple(filter(None, names.split(","))))
                for kind, token, names in found
                if names
            ),
        )

    def rights(self, digest: str) -> Rights:
        """What the bearer of the token with this digest may do; without tokens, anybody."""
        if not self:
            return Rights()
        return Rights(self._names("read", digest), self._names("write", digest))

    def _names(self, kind: str, digest: str) -> frozenset[str] | None:
        """The collections of one right of a token; None for all."""
        lines = (self.read if kind == "read" else self.write).count(digest)
        limits = [names for one, of, names in self.only if (one, of) == (kind, digest)]
        # A line without names is for all.
        if lines > len(limits):
            return None
        return frozenset(name for names in limits for name in names)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the tokens in {file}: {error}") from error


def _digests(tokens: list[str]) -> tuple[str, ...]:
    stripped = [token.strip() for token in tokens if token.strip()]
    if any(len(token) < MIN_TOKEN for token in stripped):
        raise UsageError(
            f"a token has at least {MIN_TOKEN} characters: make one with 'openssl rand -hex 32'"
        )
    return tuple(token_digest(token) for token in stripped)


def token_digest(token: str) -> str:
    """The SHA-256 digest of a token, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def require_tokens(tokens: Tokens) -> None:
    """Check that there are tokens, for a service that other machines can reach.

    Raises:
        UsageError: there are none.
    """
    if not tokens:
        raise UsageError(
            "a service that other machines can reach needs tokens: give a file of them, or set "
            f"{READ_TOKENS_VARIABLE} and {WRITE_TOKENS_VARIABLE}",
            remedy=Remedy.TOKENS,
        )


@dataclass(frozen=True)
class ServiceConfig:
    """What a service is told when it is started.

    Attributes:
        redis_url: where its collections are.
        collections: which ones it serves; the first where a request names none.
        model: name or bundle, where the first collection does not say it itself.
        weights: a file in place of the model's published weights.
        workers: the least and the most query workers.
        parts: each collection's partitions are divided among workers of so many kinds, of which
            there are as many each; 1: every worker searches all.
        cpus: logical CPUs that the embedder and each worker hold. By default so few that on two
            cores an ingest finds room beside four workers; where nodes are for the service alone,
            and come and go with its workers, it is 1.
        gpu: whether the embedder holds a GPU; by default, if the cluster has one at that moment.
        cache_memory: bytes of buckets and vectors that a worker may keep.
        max_staleness: seconds that an answer may be behind the collection.
        queue: requests that a worker has at once; more are answered 503.
        deadline: seconds that a request may take, its body included.
        rate: requests a second that a token may send to a worker, on average; an image counts as
            several, and so does each search of a batch.
        max_pixels: of an image to search by or to add; an ingest takes larger ones.
        loopback: it can be reached from this machine only, and so needs no tokens.
        thumbnails_from: folders and prefixes, absolute or as URIs, from which pictures are shown
            that no ingest has read there.
        thumbnails_in: folder in which small pictures are kept; None: they are kept in memory only.
        thumbnail_space: bytes that they may take there; 0 for none.
        cors_origins: whose pages may call it from a browser, such as https://shop.example.
        fetch_loopback: let it fetch addresses of its own machine: for tests.
    """

    redis_url: str
    collections: tuple[str, ...] = (DEFAULT_COLLECTION,)
    model: str | None = None
    weights: str | None = None
    workers: tuple[int, int] = (1, 1)
    parts: int = 1
    cpus: float = 0.3
    gpu: bool | None = None
    cache_memory: int = CACHE_MEMORY
    max_staleness: float = MAX_STALENESS
    queue: int = 64
    deadline: float = 10.0
    rate: float = 200.0
    max_pixels: int = 25_000_000
    tokens: Tokens = Tokens()
    loopback: bool = False
    thumbnails_from: tuple[str, ...] = ()
    thumbnails_in: str | None = None
    thumbnail_space: int = 2_000_000_000
    cors_origins: tuple[str, ...] = ()
    fetch_loopback: bool = False

    def __post_init__(self) -> None:
        least, most = self.workers
        if not 1 <= least <= most:
            raise UsageError("workers are a number, or the least and the most: 2:16")
        if not 0 < self.cpus <= 64:
            raise UsageError("a worker holds logical CPUs, or a part of one: more than 0")
        if self.parts < 1:
            raise UsageError("a service has one part or several")
        if not self.collections:
            raise UsageError("name a collection to serve")
        for place in self.thumbnails_from:
            root_uri(place)
            if "://" not in place and not Path(place).is_absolute():
                raise UsageError(f"{place} is neither an absolute path nor a URI")
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise UsageError(f"{origin} is not the origin of a page: https://shop.example")
        if not self.loopback:
            require_tokens(self.tokens)
            if self.fetch_loopback:
                raise UsageError("only a service of its own machine may fetch from there")

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> ServiceConfig:
        """From the `args` of a Serve config file, which many may read.

        So tokens come from the environment; the Redis URL does where `args` leave it out.

        Raises:
            UsageError: a setting that there is not, or one that cannot be.
        """
        known = {field.name for field in fields(cls)} - {"tokens"}
        unknown = sorted(arguments.keys() - known)
        if unknown:
            raise UsageError(f"a service has no setting {unknown[0]!r}, only {sorted(known)}")
        url = arguments.get("redis_url", Settings.resolve().redis_url)
        if url is None:
            raise UsageError(
                f"a service needs the setting 'redis_url', or {REDIS_URL_VARIABLE} in the "
                "environment of the cluster's nodes"
            )
        settings = {**arguments, "redis_url": url, "tokens": Tokens.resolve()}
        try:
            return TypeAdapter(cls).validate_python(settings)
        except ValidationError as error:
            [first, *_] = error.errors()
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"the setting {where} of the service: {first['msg']}") from error
