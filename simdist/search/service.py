"""A `simdist serve` as it is reached over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from simdist.errors import (
    Remedy,
    ServiceError,
    SourceError,
    UnknownCollectionError,
    UnknownImageError,
    UsageError,
)
from simdist.sources.loopback import without_proxy

T = TypeVar("T")

TIMEOUT = 60.0
# A service says 503 when it lacks room or a part, and 429 to who asks too much: requests are sent
# again then, all of which may be, after 0.5, 1, 2 and 4 seconds.
_RETRIES = Retry(
    total=4,
    connect=0,
    read=0,
    status_forcelist={429, 503},
    allowed_methods=None,
    backoff_factor=0.5,
    respect_retry_after_header=False,
    raise_on_status=False,
)


class Service:
    """Sends requests to a service, and says what is wrong with the answers."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = TIMEOUT) -> None:
        """A client; nothing is sent yet.

        Args:
            url: where the service is.
            token: a bearer token, where it asks for one.
            timeout: seconds that an answer may take.

        Raises:
            UsageError: `url` is no http(s) address.
        """
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is not the address of a service: http://HOST:PORT")
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = not without_proxy(url)
        self._session.mount("http://", HTTPAdapter(max_retries=_RETRIES))
        self._session.mount("https://", HTTPAdapter(max_retries=_RETRIES))
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send(
        self, method: str, path: str, read: Callable[[dict[str, Any]], T], **request: Any
    ) -> T:
        """Send a request; returns what is read from the answer.

        Raises:
            UnknownImageError: no image of that URI or id is indexed.
            UnknownCollectionError: the service does not serve that collection.
            ServiceError: the service cannot be reached, or refuses.
        """
        headers = {"Content-Type": "application/octet-stream"} if "data" in request else {}
        try:
            response = self._session.request(
                method, self._url + path, timeout=self._timeout, headers=headers, **request
            )
        except requests.Timeout as error:
            raise ServiceError(f"{self._url} did not answer within {self._timeout:g} s") from error
        except (requests.RequestException, ValueError) as error:
            raise ServiceError(
                f"cannot reach a service at {self._url}: start one, or correct the address",
                remedy=Remedy.SERVE,
            ) from error
        answer = _object(response)
        if response.ok:
            try:
                return read(answer or {})
            except (LookupError, TypeError, AttributeError) as error:
                raise ServiceError(
                    f"what answers at {self._url} is no simdist service: correct the address",
                    status=response.status_code,
                ) from error
        detail = (answer or {}).get("detail", f"it answered {response.status_code}")
        message = f"the service at {self._url} refuses: {detail}"
        for kind in (UnknownImageError, UnknownCollectionError):
            if (answer or {}).get("type") == kind.problem_type:
                raise kind(message)
        remedy = Remedy.TOKEN if response.status_code == requests.codes.unauthorized else None
        raise ServiceError(message, status=response.status_code, remedy=remedy)


def bytes_of(image: Path | bytes) -> bytes:
    """An image's bytes.

    Raises:
        SourceError: the file cannot be read.
    """
    try:
        return image.read_bytes() if isinstance(image, Path) else image
    except OSError as error:
        raise SourceError(f"cannot read {image!s}: {error.strerror}") from error


def _object(response: requests.Response) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
