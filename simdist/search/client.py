"""A client of `simdist serve`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simdist.errors import ServiceError, UsageError
from simdist.search.administration import Administration
from simdist.search.pages import Hits
from simdist.search.question import WAYS, Hit, Question
from simdist.search.service import bytes_of


class Client(Administration):
    """Searches through a service; with a write token, changes what it serves, too.

    >>> with simdist.Client("http://127.0.0.1:8000") as client:
    ...     hits = client.search(image=Path("photo.jpg"), n=5)
    >>> hits[0].label
    'fish'
    """

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
        return self.ask(Question(image=None if image is None else bytes_of(image), **question))

    def search_many(self, vectors: ArrayLike, **question: Any) -> list[Hits]:
        """As `search` by each of several vectors, (q, dim), in one request."""
        asked = _fields(Question(vector=vectors, **question))
        body = _float32(asked.pop("vector"))
        return self._send("POST", "/v1/search/batch", _results, params=asked, data=body)


def _fields(question: Question) -> dict[str, Any]:
    """What is asked, as the API takes it: what is not said is left out."""
    if question.without or question.groups:
        raise UsageError("a service leaves out the examples that are indexed, and nothing else")
    given = {field.name: getattr(question, field.name) for field in fields(question)}
    given = {name: value for name, value in given.items() if value is not None}
    sides = {name: given.pop(name) for name in ("like", "unlike")}
    del given["without"], given["made_by"]
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


def _hit(fields: Mapping[str, Any]) -> Hit:
    return Hit(fields["uri"], fields["score"], fields["label"], fields["metadata"])
