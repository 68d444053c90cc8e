"""A page that shows groups of duplicates side by side, and asks nothing of anybody."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from urllib.parse import quote, unquote

from simdist.errors import ImageError, SourceError, UsageError
from simdist.images.decoding import open_image
from simdist.joining.duplicates import Duplicate, Duplicates
from simdist.joining.keeping import bytes_of, date_of, sides_of
from simdist.joining.whole import OnProgress
from simdist.joining.writing import whole_file
from simdist.sources import read_bytes

# Groups on a page, and images of a group: a browser shows that many at once.
GROUPS, _IMAGES = 100, 60
_SIDE, _QUALITY = 192, 80

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { margin: 1.5rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
ul { display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; margin: 0; padding: 0; }
main { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1rem 3rem; }
li { width: min(12.5rem, 43vw); border-top: 4px solid #8888; padding-top: .4rem; }
li { overflow-wrap: anywhere; }
li.keep { border-top-color: #1668c7; }
img, .none { display: block; width: 96%; aspect-ratio: 1; object-fit: contain; }
.none { border: 1px dashed #888; box-sizing: border-box; padding: .5rem; }
small { display: block; } nav { display: flex; gap: 1rem; flex-wrap: wrap; margin: 1rem 0; }
"""


def write_report(
    found: Duplicates,
    groups: Sequence[Sequence[Duplicate]],
    path: Path,
    *,
    title: str,
    on_progress: OnProgress,
) -> None:
    """Write a page of groups; of many, further ones beside it, `NAME-2.html` and so on.

    Images are read from where they were indexed; what cannot be read any more is named only.

    Raises:
        OutputError: it cannot be written.
    """
    parts = [groups[start : start + GROUPS] for start in range(0, len(groups), GROUPS)] or [[]]
    names = [path, *(path.with_stem(f"{path.stem}-{n}") for n in range(2, len(parts) + 1))]
    done = 0
    for number, (part, name) in enumerate(zip(parts, names, strict=True)):
        with whole_file(name) as target, target.open("w", encoding="utf-8") as file:
            file.write(_head(title, found, len(groups)))
            links = _links(names, number)
            file.write(links + "<main>\n")
            for group in part:
                file.write(_group(found, group))
                done += 1
                on_progress("drawing groups", done, len(groups))
            file.write("</main>\n" + links + "</body>\n</html>\n")


def _head(title: str, found: Duplicates, groups: int) -> str:
    style = b64encode(sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{style}'"
    epochs = " + ".join(f"{epoch:,}" for epoch in found.epochs)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>Duplicates in {escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Duplicates in {escape(title)}</h1>\n"
        f"<p>{groups:,} groups among {found.images:,} images, as of epoch {epochs}. Scores are to "
        "the first image of a group, its representative. Kept images have a blue bar.</p>\n"
    )


def _links(names: Sequence[Path], number: int) -> str:
    if len(names) == 1:
        return ""
    links = [
        f"<b>{n + 1}</b>" if n == number else f'<a href="{quote(name.name)}">{n + 1}</a>'
        for n, name in enumerate(names)
    ]
    return f'<nav aria-label="Pages">{" ".join(links)}</nav>\n'


def _group(found: Duplicates, group: Sequence[Duplicate]) -> str:
    shown = group[:_IMAGES]
    more = f", {len(shown)} of them shown" if len(shown) < len(group) else ""
    heading = f"<h2>Group {group[0].group:,}: {len(group):,} images{more}</h2>\n"
    images = "".join(_image(found, one) for one in shown)
    return f"<section>\n{heading}<ul>\n{images}</ul>\n</section>\n"


def _image(found: Duplicates, one: Duplicate) -> str:
    name = unquote(one.uri.rpartition("/")[2], errors="replace")
    data = _thumbnail(one.uri)
    if data is None:
        picture = '<span class="none">cannot be read any more</span>'
    else:
        picture = f'<img alt="{escape(name)}" src="data:image/jpeg;base64,{data}">'
    role = "representative" if one.representative else f"{one.kind}, {one.score:.3f}"
    lines = [role + (", keep" if one.keep else ""), *_known(found, one.uri)]
    small = "".join(f"<small>{escape(line)}</small>" for line in lines)
    kept = ' class="keep"' if one.keep else ""
    return f'<li{kept} title="{escape(one.uri)}">{picture}<b>{escape(name)}</b>{small}</li>\n'


def _known(found: Duplicates, uri: str) -> Iterator[str]:
    """What is known of an image: its size, its date."""
    record = found.record(uri)
    sides = sides_of(record)
    if sides:
        yield f"{sides[0]:,} x {sides[1]:,} pixels"
    if size := bytes_of(record):
        yield f"{size:,} bytes"
    if date := date_of(record):
        yield date
    if record.label:
        yield record.label


def _thumbnail(uri: str) -> str | None:
    """A small JPEG in base64; None if the image cannot be read any more."""
    try:
        picture = open_image(read_bytes(uri), at_least=_SIDE)
    except (SourceError, ImageError, UsageError):
        return None
    picture.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY)
    return b64encode(out.getvalue()).decode()
