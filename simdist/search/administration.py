"""What a client changes in what a service serves: images, and whole collections."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simdist.errors import ServiceError, UnknownImageError
from simdist.search.service import Service, bytes_of
from simdist.store.layout import uri_digest

# Images that a request for pages asks for.
_PAGE = 1000
# Seconds between two questions whether something is done; and that it may take by default.
_PAUSE, _PATIENCE = 0.2, 3600.0


class Administration(Service):
    """Lists and changes images and collections; what changes something takes a write token."""

    def collections(self) -> list[Mapping[str, Any]]:
        """The collections that are served: name, alias_of, images, dim, model, recalls."""
        return self._send("GET", "/v1/collections", lambda answer: list(answer["collections"]))

    def images(
        self,
        *,
        where: str | None = None,
        prefix: str | None = None,
        labelled: str | None = None,
        collection: str | None = None,
    ) -> Iterator[Mapping[str, Any]]:
        """The images of a collection, or those that are chosen: id, uri, label, metadata.

        Args:
            where: a filter that they pass.
            prefix: what their URIs begin with.
            labelled: their label.
        """
        asked = _said(where=where, prefix=prefix, label=labelled, collection=collection) | {
            "n": _PAGE
        }
        while True:
            found = self._send(
                "GET", "/v1/images", lambda answer: (answer["images"], answer["next"]), params=asked
            )
            yield from found[0]
            if found[1] is None:
                return
            asked["after"] = found[1]

    def image(
        self, uri: str, *, vector: bool = False, collection: str | None = None
    ) -> Mapping[str, Any]:
        """What is stored of an image: id, uri, label, metadata, collection, vector.

        Raises:
            UnknownImageError: it is not indexed.
        """
        asked = _said(collection=collection) | {"vector": str(vector).lower()}
        return self._send("GET", _of_image(uri), _image, params=asked)

    def add(
        self,
        uri: str,
        image: Path | bytes | None = None,
        *,
        label: str | None = None,
        collection: str | None = None,
    ) -> str:
        """Index one image.

        Args:
            uri: what it is known by: an http(s) address, or a name of your own, `urn:shop:4711`.
            image: a file, or its bytes; without it the service fetches the address.

        Returns:
            "added", "replaced" or "unchanged".
        """
        options = _said(label=label, collection=collection)
        if image is None:
            return self._send("POST", "/v1/images", _outcome, json=options | {"url": uri})
        options |= {"uri": uri}
        return self._send("POST", "/v1/images", _outcome, params=options, data=bytes_of(image))

    def amend(self, uri: str, *, collection: str | None = None, **change: Any) -> Mapping[str, Any]:
        """Change an image's label and metadata, without embedding it again; what it is now.

        Args:
            change: `label`, None to take it away; `metadata`, which is merged into what there is:
                what is None in it goes.

        Raises:
            UnknownImageError: it is not indexed.
        """
        asked = _said(collection=collection)
        return self._send("PATCH", _of_image(uri), _image, params=asked, json=change)

    def amend_chosen(
        self,
        *,
        where: str | None = None,
        prefix: str | None = None,
        labelled: str | None = None,
        collection: str | None = None,
        **change: Any,
    ) -> int:
        """As `amend`, for all images that are chosen as in `images`; how many were changed."""
        asked = _said(where=where, prefix=prefix, label=labelled, collection=collection)
        return self._all("PATCH", asked, "changed", json=change)

    def delete(self, uri: str, *, collection: str | None = None) -> bool:
        """Delete an image from the collection; whether it was there."""
        options = _said(uri=uri, collection=collection)
        try:
            self._send("DELETE", "/v1/images", lambda answer: answer["deleted"], params=options)
        except UnknownImageError:
            return False
        return True

    def delete_chosen(
        self,
        *,
        where: str | None = None,
        prefix: str | None = None,
        labelled: str | None = None,
        collection: str | None = None,
    ) -> int:
        """Delete all images that are chosen as in `images`; how many there were."""
        asked = _said(where=where, prefix=prefix, label=labelled, collection=collection)
        return self._all("DELETE", asked, "deleted")

    def rename(self, old: str, new: str) -> None:
        """Call a collection something else."""
        self._send("POST", f"/v1/collections/{old}/rename", _name, json={"to": new})

    def alias(self, alias: str, collection: str) -> None:
        """Let an alias lead to a collection, or to another one than before."""
        self._send("PUT", f"/v1/aliases/{alias}", _name, json={"to": collection})

    def remove_alias(self, alias: str) -> None:
        """Remove an alias; the collection stays."""
        self._send("DELETE", f"/v1/aliases/{alias}", _name)

    def copy(self, source: str, name: str, *, patience: float = _PATIENCE) -> None:
        """Copy a collection, as it is at one moment; returns when the copy is there.

        Args:
            patience: seconds that it may take.

        Raises:
            ServiceError: it was not done, or takes longer.
        """
        self._send("POST", f"/v1/collections/{source}/copy", _name, json={"to": name})
        self._wait(name, patience)
        if name not in [one["name"] for one in self.collections()]:
            raise ServiceError(f"the copy {name!r} could not be made: the service's log says why")

    def drop(self, name: str, *, patience: float = _PATIENCE) -> None:
        """Drop a collection; returns when nothing is left of it.

        Args:
            patience: seconds that it may take.

        Raises:
            ServiceError: it takes longer; the collection is gone already.
        """
        self._send("DELETE", f"/v1/collections/{name}", _name)
        self._wait(name, patience)

    def _all(self, method: str, asked: dict[str, Any], counted: str, **request: Any) -> int:
        """Send a request for all images that are chosen, some at a time."""
        count = 0
        while True:
            some, after = self._send(
                method,
                "/v1/images",
                lambda answer: (int(answer[counted]), answer["next"]),
                params=asked,
                **request,
            )
            count += some
            if after is None:
                return count
            asked["after"] = after

    def _wait(self, name: str, patience: float) -> None:
        """Wait until nothing is under way with a collection."""
        ends_at = time.monotonic() + patience
        while name in self._send("GET", "/v1/collections", _under_way):
            if time.monotonic() > ends_at:
                raise ServiceError(f"{name!r} is not done within {patience:g} s; it goes on")
            time.sleep(_PAUSE)


def _said(**options: str | None) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _of_image(uri: str) -> str:
    return f"/v1/images/{uri_digest(uri).hex()}"


def _image(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"uri": answer["uri"], **answer}


def _outcome(answer: Mapping[str, Any]) -> str:
    return str(answer["outcome"])


def _name(answer: Mapping[str, Any]) -> str:
    return str(answer["name"])


def _under_way(answer: Mapping[str, Any]) -> list[str]:
    return [work["name"] for work in answer["work"]]
