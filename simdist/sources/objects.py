"""S3, Google Cloud Storage and Azure Blob Storage, through obstore."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from simdist.errors import ImageError, Remedy, SourceError, UsageError
from simdist.images.limits import check_size
from simdist.sources.access import SCHEMES, Access
from simdist.sources.background import interruptibly
from simdist.sources.loopback import proxies_for
from simdist.sources.plain_s3 import PlainS3, is_needed
from simdist.sources.reference import Found

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, GCSStore, S3Store

    Store = S3Store | GCSStore | AzureStore

# Of a request that fails for the moment: timeouts, dropped connections, 429 and 5xx.
RETRIES = 10
RETRY_SECONDS = 90.0
_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 60.0
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_FIRST_IMPORT = Lock()
_ADDRESS = re.compile(r"\w+://\S+")
# Characters of a text of obstore's own that are shown.
_SAID = 200
# Where clients on a machine of the store's own cloud are given credentials.
_METADATA_SERVERS = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")

# What obstore says of a key that it cannot name.
INVALID_PATH = "invalid path"
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class MissingObjectError(SourceError):
    """A bucket has no object of this key."""


@dataclass(frozen=True)
class Address:
    """Where an object is: which kind of store, which bucket, which key."""

    scheme: str
    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Read `s3://bucket/key`; what is percent-encoded in the key is decoded.

        Raises:
            UsageError: it names no bucket.
        """
        scheme, _, rest = uri.partition("://")
        scheme = scheme.lower()
        bucket, _, key = rest.partition("/")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._$-]*", bucket):
            raise UsageError(f"{uri} names no bucket: write {scheme}://BUCKET/PREFIX")
        return cls(scheme, bucket, unquote(key))

    @property
    def uri(self) -> str:
        """Its URI, percent-encoded ASCII."""
        return f"{self.scheme}://{self.bucket}/{quote(self.key)}"


def is_object(uri: str) -> bool:
    """Whether a URI is of an object store."""
    return "://" in uri and uri.partition("://")[0].lower() in SCHEMES


@dataclass(frozen=True)
class Patience:
    """How often a request is tried again, and for how long; how long one may take."""

    retries: int
    retry_seconds: float
    request_seconds: float


# Before anything has worked, a mistake in the command is likelier than a busy store.
FIRST = Patience(2, 15.0, 10.0)


def bucket_store(
    scheme: str, bucket: str, access: Access, patience: Patience | None = None
) -> Store:
    """A client for one bucket; it keeps its connections, so there is one a process."""
    patience = patience or Patience(RETRIES, RETRY_SECONDS, _REQUEST_SECONDS)
    # obstore's modules import each other: of threads that import it at once, some get half of it.
    with _FIRST_IMPORT:
        return _client(scheme, bucket, access, patience)


@lru_cache(maxsize=64)
def _client(scheme: str, bucket: str, access: Access, patience: Patience) -> Store:
    from obstore.store import AzureStore, GCSStore, S3Store

    kind: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
    endpoint = access.endpoint(scheme) or ""
    plain = endpoint.startswith("http://")
    with translated(Address(scheme, bucket, ""), access), proxies_for(endpoint):
        store: Store = kind(
            bucket,
            config=access.config(scheme),
            client_options={
                # Only where the user's own setting says http.
                "allow_http": plain,
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                "timeout": timedelta(seconds=patience.request_seconds),
            },
            # Exponential backoff with jitter, of obstore's own.
            retry_config={
                "max_retries": patience.retries,
                "retry_timeout": timedelta(seconds=patience.retry_seconds),
            },
        )
    return store


def check(address: Address, access: Access) -> None:
    """Make sure that there is something under a prefix.

    Raises:
        SourceError: there is not, or the store cannot be asked.
    """
    with translated(address, access):
        store = bucket_store(address.scheme, address.bucket, access, FIRST)
        page = store.list(address.key.rstrip("/") or None, chunk_size=1)
        try:
            if interruptibly(next, page, None):
                return
        except Exception as error:
            # There is a key that is no path: the listing knows what to do.
            if address.scheme == "s3" and INVALID_PATH in str(error):
                return
            raise
    raise SourceError(
        f"there is nothing under {address.uri}: check the prefix (whole names between slashes), "
        f"or name a pattern such as '{address.scheme}://{address.bucket}/photos/2*/*.jpg'"
    )


def describe(address: Address, access: Access, patience: Patience | None = None) -> Found:
    """What the store says of one object.

    Raises:
        SourceError: there is none, or it may not be read.
    """
    with translated(address, access):
        if plain := _plain_client(address, access):
            return found(address, plain.head(address.key))
        store = bucket_store(address.scheme, address.bucket, access, patience)
        return found(address, interruptibly(store.head, address.key))


def _plain_client(address: Address, access: Access) -> PlainS3 | None:
    """The client for a key that obstore cannot name."""
    needed = address.scheme == "s3" and is_needed(address.key)
    return PlainS3(address.bucket, access) if needed else None


def found(address: Address, meta: ObjectMeta | Mapping[str, Any]) -> Found:
    """An object of a listing; `address` is that of anything in the same bucket."""
    uri = Address(address.scheme, address.bucket, meta["path"]).uri
    version = (meta["e_tag"] or meta["last_modified"].isoformat()).strip('"')
    return Found(uri, f"{version}-{meta['size']}", meta["size"])


def read_object(uri: str, access: Access, *, limit: int) -> bytes:
    """A whole object.

    Raises:
        ImageError: it has more than `limit` bytes.
        SourceError: it cannot be read.
    """
    address = Address.parse(uri)
    with translated(address, access):
        if plain := _plain_client(address, access):
            data = plain.get(address.key, limit=limit + 1)
            check_size(len(data))
            return data
        store = bucket_store(address.scheme, address.bucket, access)
        answer = interruptibly(store.get, address.key)
        if answer.meta["size"] > limit:
            raise ImageError(
                f"the object has {answer.meta['size']:,} bytes; at most {limit:,} are read"
            )
        return bytes(interruptibly(answer.bytes))


def read_ranges(uri: str, access: Access, starts: list[int], lengths: list[int]) -> list[bytes]:
    """Parts of an object, asked for at once; less of one where it ends before.

    Raises:
        SourceError: it cannot be read.
    """
    address = Address.parse(uri)
    with translated(address, access):
        if plain := _plain_client(address, access):
            parts = zip(starts, lengths, strict=True)
            return [plain.get(address.key, limit=size, start=start) for start, size in parts]
        store = bucket_store(address.scheme, address.bucket, access)
        read = partial(store.get_ranges, starts=starts, lengths=lengths)
        return [bytes(part) for part in interruptibly(read, address.key)]


def write_object(uri: str, access: Access, data: bytes) -> None:
    """Write a whole object, in place of what is there.

    Raises:
        SourceError: it cannot be written.
    """
    address = Address.parse(uri)
    with translated(address, access):
        store = bucket_store(address.scheme, address.bucket, access)
        interruptibly(store.put, address.key, data)


def delete_object(uri: str, access: Access) -> None:
    """Delete an object.

    Raises:
        SourceError: it cannot be deleted.
    """
    address = Address.parse(uri)
    with translated(address, access):
        store = bucket_store(address.scheme, address.bucket, access)
        interruptibly(store.delete, address.key)


@contextmanager
def translated(address: Address, access: Access) -> Iterator[None]:
    """Turn what obstore raises into a `SourceError` that says what to do.

    Of its own text only the first paragraph is passed on, where nothing else is known, and without
    the addresses in it: they may be signed.
    """
    try:
        yield
    except (SourceError, ImageError, UsageError):
        raise
    except Exception as error:
        raise _error(address, access, error) from None


def _error(address: Address, access: Access, error: Exception) -> SourceError:
    text = str(error)
    gone = isinstance(error, FileNotFoundError) or "404" in _STATUS.findall(text)
    if gone and address.key and not any(code in text for code in _NO_BUCKET):
        return MissingObjectError(f"there is no {address.uri}: check the bucket and the key")
    message, remedy = _explained(address, access, error)
    return SourceError(message, remedy=remedy)


def _explained(address: Address, access: Access, error: Exception) -> tuple[str, Remedy | None]:
    text = str(error)
    code = next(iter(_CODE.findall(text)), "")
    status = next(iter(_STATUS.findall(text)), "")
    answer = " ".join(filter(None, (status, code)))
    bucket, variables = f"{address.scheme}://{address.bucket}", _CREDENTIALS[address.scheme]
    endpoint = access.endpoint(address.scheme)
    where = f" at {endpoint}" if endpoint else ""
    remedy: Remedy | None = None
    if status == "404" or isinstance(error, FileNotFoundError):
        message = f"there is no bucket {bucket}{where}: check its name and the store's address"
        remedy = Remedy.ENDPOINT
    elif any(server in text for server in _METADATA_SERVERS):
        message = (
            f"no credentials for {bucket}: set {variables}, or read it anonymously if it is public"
        )
        remedy = Remedy.ANONYMOUS
    elif status in ("301", "307", "308") or code == "AuthorizationHeaderMalformed":
        message = f"{bucket} is in another region: name it, or set AWS_REGION"
        remedy = Remedy.REGION
    elif status in ("401", "403") or isinstance(error, PermissionError):
        message = (
            f"{address.uri} may not be used{where} ({answer}): check {variables}, or read it "
            "anonymously if it is public"
        )
        remedy = Remedy.ANONYMOUS
    elif INVALID_PATH in text:
        message = (
            f"{bucket} holds a key with an empty, '.' or '..' part, such as 'a//b.jpg', which "
            "cannot be listed: rename it, or name a prefix without it"
        )
    elif status:
        message = f"the store of {bucket}{where} answered {answer}; try again later"
    elif "HTTP error" in text:
        message = (
            f"cannot reach the store of {bucket}{where}: check its address, its region and the "
            "network, then try again"
        )
        remedy = Remedy.NETWORK
    else:
        said = _ADDRESS.sub("...", text.partition("\n\n")[0])[:_SAID]
        message = (
            f"{bucket} cannot be used{where}: check {variables} and the store's address ({said})"
        )
        remedy = Remedy.ENDPOINT
    return message, remedy
