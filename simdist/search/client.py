"""A client of `simdist serve`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import requests
from numpy.typing import ArrayLike
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
from simdist.search.pages import Hits
from simdist.search.question import WAYS, Hit, Question
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


class Client:
    """Searches through a service; also adds and deletes single images.

    >>> with simdist.Client("http://127.0.0.1:8000") as client:
    ...     hits = client.search(image=Path("photo.jpg"), n=5)
    >>> hits[0].label
    'fish'
    """

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

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ask(self, question: Question) -> Hits:
        """The images most similar to what a question asks by, the best first.

        `Hits.next`, as `Question.after`, leads to the next page.

        Raises:
            UnknownImageError: no image of that URI or id is indexed.
            UnknownCollectionError: the service does not serve that collection.
            ServiceError: the service cannot be reached, or refuses.
        """
        asked = _fields(question)
        if question.several:
            return self._send("POST", "/v1/search", _hits, json=asked)
        body = asked.pop("image", None)
        if "vector" in asked:
            body = _float32(asked.pop("vector"))
        if body is not None:
            return self._send("POST", "/v1/search", _hits, params=asked, data=body)
        return self._send("POST", "/v1/search", _hits, json=asked)

    def search(self, *, image: Path | bytes | None = None, **question: Any) -> Hits:
        """As `ask`, with the fields of the `Question` as arguments: `search(uri=uri, n=10)`.

        Args:
            image: a file, or an image's bytes.

        Raises:
            SourceError: the file cannot be read.
        """
        return self.ask(Question(image=None if image is None else _bytes(image), **question))

    def search_many(self, vectors: ArrayLike, **question: Any) -> list[Hits]:
        """As `search` by each of several vectors, (q, dim), in one request."""
        asked = _fields(Question(vector=vectors, **question))
        body = _float32(asked.pop("vector"))
        return self._send("POST", "/v1/search/batch", _results, params=asked, data=body)

    def collections(self) -> list[Mapping[str, Any]]:
        """The collections that are served: name, images, dim, model, recalls."""
        return self._send("GET", "/v1/collections", lambda answer: list(answer["collections"]))

    def add(
        self,
        uri: str,
        image: Path | bytes | None = None,
        *,
        label: str | None = None,
        collection: str | None = None,
    ) -> str:
        """Index one image; takes a write token.

        Args:
            uri: what it is known by: an http(s) address, or a name of your own, `urn:shop:4711`.
            image: a file, or its bytes; without it the service fetches the address.

        Returns:
            "added", "replaced" or "unchanged".
        """
        options = {"label": label, "collection": collection}
        options = {name: value for name, value in options.items() if value is not None}
        if image is None:
            return self._send("POST", "/v1/images", _outcome, json=options | {"url": uri})
        options |= {"uri": uri}
        return self._send("POST", "/v1/images", _outcome, params=options, data=_bytes(image))

    def delete(self, uri: str, *, collection: str | None = None) -> bool:
        """Delete an image from the collection; whether it was there. Takes a write token."""
        options = {"uri": uri} | ({"collection": collection} if collection else {})
        try:
            self._send("DELETE", "/v1/images", lambda answer: answer["deleted"], params=options)
        except UnknownImageError:
            return False
        return True

    def _send(
        self, method: str, path: str, read: Callable[[dict[str, Any]], T], **request: Any
    ) -> T:
        """Send a request; returns what is read from the answer."""
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


def _bytes(image: Path | bytes) -> bytes:
    try:
        return image.read_bytes() if isinstance(image, Path) else image
    except OSError as error:
        raise SourceError(f"cannot read {image!s}: {error.strerror}") from error


def _fields(question: Question) -> dict[str, Any]:
    """What is asked, as the API takes it: what is not said is left out."""
    if question.without or question.groups:
        raise UsageError("a service leaves out the examples that are indexed, and nothing else")
    given = {field.name: getattr(question, field.name) for field in fields(question)}
    given = {name: value for name, value in given.items() if value is not None}
    sides = {name: given.pop(name) for name in ("like", "unlike")}
    del given["without"]
    for name, usual in (("offset", 0), ("group_size", 1)):
        if given[name] == usual:
            del given[name]
    if not question.several:
        if not given.keys() & set(WAYS):
            raise UsageError(f"search by one of {', '.join(WAYS)}")
        return given
    return _in_json(given) | {
        name: [_in_json(vars(example)) for example in side] for name, side in sides.items() if side
    }


def _in_json(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked by, where it is not the only thing: vectors as numbers, images in base64."""
    found = {name: value for name, value in given.items() if value is not None}
    if "vector" in found:
        found["vector"] = np.asarray(found["vector"], np.float32).tolist()
    if "image" in found:
        found["image"] = b64encode(found["image"]).decode()
    return found


def _float32(vectors: ArrayLike) -> bytes:
    """As the API takes vectors that are not in JSON, which takes several times as long to read."""
    return np.asarray(vectors, "<f4").tobytes()


def _hits(answer: Mapping[str, Any]) -> Hits:
    hits = Hits(_hit(found) for found in answer["hits"])
    hits.next = answer["next"]
    return hits


def _results(answer: Mapping[str, Any]) -> list[Hits]:
    for number, result in enumerate(answer["results"]):
        if "error" in result:
            error = result["error"]
            raise ServiceError(f"query {number}: {error['detail']}", status=error["status"])
    return [_hits(result) for result in answer["results"]]


def _outcome(answer: Mapping[str, Any]) -> str:
    return str(answer["outcome"])


def _hit(fields: Mapping[str, Any]) -> Hit:
    return Hit(fields["uri"], fields["score"], fields["label"], fields["metadata"])


def _object(response: requests.Response) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
