"""What the page that looks around asks a service: orders, kinds, pictures and files."""

from __future__ import annotations

import io
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from simdist.images.thumbnails import PREVIEW_SIDE, SIDE, Shelf
from simdist.index.collection import Collection
from simdist.index.thumbnails import make_thumbnails
from simdist.sources import Access, ImageRef, open_source
from simdist.store import connect, layout
from tests.callers import application
from tests.collections import create, vectors
from tests.conftest import PHOTOS
from tests.servers import empty, eventually

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Shown:
    """A service of a collection of photographs in a folder."""

    client: TestClient
    collection: Collection
    folder: Path
    kept: Path

    def get(self, path: str, **parameters: Any) -> Any:
        """GET, with parameters."""
        return self.client.get(path, params=parameters)

    def picture(self, name: str, kind: str, **parameters: Any) -> Any:
        """A picture of a file of the folder."""
        identity = layout.uri_digest((self.folder / name).as_uri()).hex()
        return self.get(f"/v1/images/{identity}/{kind}", **parameters)


@pytest.fixture
def shown(valkey_url: str, tmp_path: Path) -> Iterator[Shown]:
    folder, kept = tmp_path / "photos", tmp_path / "kept"
    shutil.copytree(PHOTOS / "fish", folder / "fish")
    shutil.copytree(PHOTOS / "tools", folder / "tools")
    with closing(connect(valkey_url)) as store:
        empty(store)
        collection = create(store, "photos")
        refs = [ref for ref in open_source(str(folder)).entries if isinstance(ref, ImageRef)]
        collection.add(vectors(len(refs)), refs)
        app = application(store, ["photos"], thumbnails_in=str(kept))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            yield Shown(client, collection, folder, kept)


def test_any_part_of_an_order_is_answered(shown: Shown) -> None:
    names = [path.as_uri() for path in sorted(shown.folder.rglob("*.jpg"))]
    whole = shown.get("/v1/browse", order="name", n=1000).json()
    assert [image["uri"] for image in whole["images"]] == names
    assert (whole["total"], whole["collection"], whole["offset"]) == (len(names), "photos", 0)
    part = shown.get("/v1/browse", order="name", offset=30, n=5).json()
    assert part["images"] == whole["images"][30:35]
    assert part["version"] == whole["version"]
    assert shown.get("/v1/browse", offset=10_000).json()["images"] == []

    fish = shown.get("/v1/browse", prefix=(shown.folder / "fish").as_uri() + "/").json()
    assert fish["total"] == len(list((shown.folder / "fish").iterdir()))
    facets = shown.get("/v1/facets", where=f'uri ^= "{names[0]}"').json()
    assert (facets["total"], facets["months"]) == (1, [])
    assert facets["folders"] == [{"value": names[0].rpartition("/")[0] + "/", "count": 1}]

    shown.collection.delete([names[0]])
    # An answer may be a second behind.
    eventually(lambda: shown.get("/v1/browse").json()["version"] != whole["version"])
    left = shown.get("/v1/browse", order="name").json()
    assert left["images"][0]["uri"] == names[1]


@pytest.mark.parametrize(
    "wrong", [{"order": "size"}, {"offset": -1}, {"n": 0}, {"n": 1001}, {"where": "="}, {"x": 1}]
)
def test_what_cannot_be_asked_is_refused(shown: Shown, wrong: dict[str, Any]) -> None:
    assert shown.get("/v1/browse", **wrong).status_code == 422


def test_pictures_are_kept_and_may_be_kept(shown: Shown) -> None:
    small = shown.picture("fish/angelfish.jpg", "thumbnail")
    large = shown.picture("fish/angelfish.jpg", "preview")
    for answer, side in ((small, SIDE), (large, PREVIEW_SIDE)):
        assert answer.headers["Content-Type"] == "image/webp"
        assert answer.headers["Cache-Control"] == "private, max-age=300"
        assert max(Image.open(io.BytesIO(answer.content)).size) <= side
    files = [path for path in shown.kept.rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in files) == sorted([small.content, large.content])
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}

    [listed] = [
        image
        for image in shown.get("/v1/browse", n=1000).json()["images"]
        if image["uri"].endswith("angelfish.jpg")
    ]
    again = shown.picture("fish/angelfish.jpg", "thumbnail", v=listed["version"])
    assert again.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert again.content == small.content
    assert shown.picture("fish/angelfish.jpg", "thumbnail", v="../x").status_code == 422


def test_a_file_is_given_away_as_it_is_to_be_saved(shown: Shown) -> None:
    file = shown.folder / "fish" / "angelfish.jpg"
    answer = shown.picture("fish/angelfish.jpg", "original")
    assert answer.content == file.read_bytes()
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''angelfish.jpg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
    # What has come to lie in its place is another file.
    file.write_text("<script>alert(1)</script>")
    changed = shown.picture("fish/angelfish.jpg", "original")
    assert changed.status_code == 404
    assert "has changed" in changed.json()["detail"]


def test_thumbnails_are_made_ahead(shown: Shown) -> None:
    (shown.folder / "fish" / "angelfish.jpg").unlink()
    shelf, counts = Shelf(shown.kept, room=10**9), []

    def make() -> tuple[int, int, int]:
        made = make_thumbnails(
            shown.collection,
            shelf,
            roots=[],
            access=Access(),
            threads=2,
            on_progress=lambda _, done, total: counts.append((done, total)),
        )
        return made.made, made.there, made.unreadable

    images = shown.collection.count()
    assert make() == (images - 1, 0, 1)
    assert counts[-1] == (images, images)
    assert make() == (0, images - 1, 1)
    kept = {path.read_bytes() for path in shown.kept.rglob("*.webp")}
    # A service has them before it reads a file.
    shutil.rmtree(shown.folder / "tools")
    shutil.move(shown.folder / "fish", shown.folder / "away")
    assert shown.picture("fish/clownfish.jpg", "thumbnail").content in kept
    assert shown.picture("fish/angelfish.jpg", "thumbnail").status_code == 404
