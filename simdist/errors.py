"""Every error that simdist raises on purpose.

SimdistError
├── UsageError            the call itself is wrong (exit code 2)
├── SourceError           a place or an address cannot be listed or read
│   └── FetchError        a web address is refused or does not answer
├── OutputError           a file or a picture that should be written cannot be
├── ImageError            bytes that are not an acceptable image
├── ModelError            weights or a bundle cannot be had, read or used
├── VectorError           vectors that cannot be indexed or searched with
├── StoreError            Redis cannot be reached, started or used
├── CollectionError       a collection is missing or is not what was assumed
│   ├── MissingCollectionError   there is none of that name
│   ├── LayoutError          it is stored otherwise than this simdist reads
│   ├── ModelMismatchError   another model made its embeddings
│   ├── UnknownImageError    an image is not indexed in it
│   ├── UnknownCollectionError   a service does not serve it
│   └── ForbiddenError       a caller of a service may not change it
├── ClusterError          Ray cannot be reached, or lost a part of the work
│   └── BusyError            a service has no room or no time for a request now
└── ServiceError          a simdist service cannot be reached, or refuses a request

A message is one sentence for a person: what is wrong, then what to do next. It names no command
and no flag, for it is read by callers of the library and of the HTTP API too; an error's `remedy`
says what the command line has for it.
"""

from __future__ import annotations

from enum import Enum, auto


class Remedy(Enum):
    """What helps: the command line knows the command or the flag for each."""

    ANONYMOUS = auto()
    ARCH = auto()
    BUNDLED_MODEL = auto()
    CHECK = auto()
    COLLECTION = auto()
    COLLECTIONS = auto()
    ENDPOINT = auto()
    EXCLUDE = auto()
    HOST_AND_PORT = auto()
    INGEST = auto()
    LABEL_FROM = auto()
    LICENCE = auto()
    NETWORK = auto()
    OUT = auto()
    RAY_ADDRESS = auto()
    REDIS = auto()
    REGION = auto()
    REHASH = auto()
    SERVE = auto()
    STATUS = auto()
    TIMM_WEIGHTS = auto()
    TOKEN = auto()
    TOKENS = auto()
    TRUST = auto()
    TUNE = auto()
    URI_COLUMN = auto()
    WEIGHTS = auto()
    WHOLE_SOURCE = auto()


class SimdistError(Exception):
    """Base of all errors that simdist raises on purpose; `exit_code` is the command line's.

    Attributes:
        remedy: what helps, if anything that the command line has.
        about: what the remedy is for, such as the name of a collection.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: Remedy | None = None, about: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        self.about = about


class UsageError(SimdistError):
    """The call itself is wrong: an option or a name that can never work."""

    exit_code = 2


class SourceError(SimdistError):
    """A place that should hold images cannot be listed or read."""


class FetchError(SourceError):
    """A web address was refused, did not answer in time, or sent too much.

    `passing` says that it may well work a moment later.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class OutputError(SimdistError):
    """A file or a picture that should be written or shown cannot be."""


class ImageError(SimdistError):
    """Bytes that are not an acceptable image."""


class ModelError(SimdistError):
    """Weights or a bundle cannot be had, cannot be read, or do not fit the backbone."""


class VectorError(SimdistError):
    """Vectors of the wrong shape, not finite, or of length zero."""


class StoreError(SimdistError):
    """Redis cannot be reached, started or used."""


class CollectionError(SimdistError):
    """A collection is missing, or is not what the call assumes."""


class LayoutError(CollectionError):
    """The collection is stored otherwise than this simdist reads: another version made it."""


class ModelMismatchError(CollectionError):
    """The collection's embeddings were made by another model."""


class MissingCollectionError(CollectionError):
    """There is no collection of that name. `others` are the names of those that there are."""

    def __init__(
        self,
        message: str,
        *,
        others: tuple[str, ...] = (),
        remedy: Remedy | None = None,
        about: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy, about=about)
        self.others = others


class UnknownImageError(CollectionError):
    """An image is not indexed in the collection.

    `problem_type` tells a client of a service which of several things it does not find (RFC 9457).
    """

    problem_type = "urn:simdist:unknown-image"


class UnknownCollectionError(CollectionError):
    """A service does not serve that collection. `problem_type` as in `UnknownImageError`."""

    problem_type = "urn:simdist:unknown-collection"


class ForbiddenError(CollectionError):
    """A caller of a service may not do that with the collection."""


class ClusterError(SimdistError):
    """Ray cannot be reached or started, or lost a part of the work."""


class BusyError(ClusterError):
    """A service has no room or no time for a request now; a moment later it may."""


class ServiceError(SimdistError):
    """A simdist service cannot be reached, or refuses a request.

    `status` is the HTTP status code; 0 where there was no answer.
    """

    def __init__(self, message: str, *, status: int = 0, remedy: Remedy | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
