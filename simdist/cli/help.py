"""Help in sections: plain text that also reads well in a pipe."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand

from simdist.cli.options import (
    DECISIONS,
    OBJECT_STORES,
    OUTPUT,
    REMOVING,
    WHERE,
    WHICH_DUPLICATES,
    WHICH_IMAGES,
    WHICH_NEIGHBOURS,
)

_SECTIONS = (
    "Arguments",
    "Options",
    WHICH_IMAGES,
    WHICH_DUPLICATES,
    WHICH_NEIGHBOURS,
    REMOVING,
    DECISIONS,
    OUTPUT,
    OBJECT_STORES,
    WHERE,
)

EXAMPLES = {
    "ingest": (
        "simdist ingest ~/Pictures",
        "simdist ingest s3://bucket/photos --collection shop --expect 10_000_000",
        "simdist ingest photos --collection dino --model dinov2-s",
    ),
    "search": (
        "simdist search photo.jpg -n 10 --out similar.png",
        "simdist search urn:shop:4711 --label shoes --min-score 0.5 --json",
        "simdist search --text 'a red bicycle' -n 10",
    ),
    "duplicates": (
        "simdist duplicates --collection shop --report groups.html",
        "simdist duplicates --same --keep largest --list-files",
    ),
    "neighbours": (
        "simdist neighbours --collection shop -k 20 --out neighbours",
        "simdist neighbours --collection shop -k 20 --since neighbours --out neighbours",
    ),
    "serve": (
        "simdist serve --workers 1:4",
        "simdist serve --host 0.0.0.0 --tokens tokens.txt --redis redis://redis.example:6379",
    ),
    "failures": ("simdist failures --json", "simdist failures --retry"),
    "status": ("simdist status", "simdist status --json"),
    "collections list": ("simdist collections list", "simdist collections list --json"),
    "collections rename": ("simdist collections rename images shop",),
    "collections alias": (
        "simdist collections alias live shop-2",
        "simdist collections alias live --remove",
    ),
    "collections copy": ("simdist collections copy shop shop-trial",),
    "collections drop": ("simdist collections drop shop-1 --yes",),
    "images list": (
        "simdist images list --collection shop -n 20",
        "simdist images list --prefix s3://bucket/shoes/ --json",
    ),
    "images get": ("simdist images get photos/a.jpg", "simdist images get urn:shop:4711 --vector"),
    "images set": (
        "simdist images set photos/a.jpg --label shoes",
        """simdist images set --labelled shoes --metadata '{"price": 30}'""",
    ),
    "images delete": (
        "simdist images delete photos/a.jpg",
        "simdist images delete --prefix s3://bucket/old/ --yes",
    ),
    "export": (
        "simdist export shop-backup --collection shop",
        "simdist export s3://bucket/backups/shop --collection shop",
    ),
    "import": (
        "simdist import shop-backup --collection shop-2",
        "simdist import vectors.npy --uris uris.txt --model clip-vit-b-32 --collection clip",
    ),
    "check": ("simdist check --collection shop", "simdist check --collection shop --repair"),
    "tune": (
        "simdist tune --collection shop --plot recall.png",
        "simdist tune --collection shop --texts questions.txt",
    ),
    "rehash": ("simdist rehash --collection shop", "simdist rehash --family hyperplanes --size 12"),
    "reembed": (
        "simdist reembed --collection shop --model convnext_tiny",
        "simdist reembed --collection shop --model convnext_tiny --keep shop-before",
    ),
    "thumbnails": (
        "simdist thumbnails --collection shop",
        "simdist thumbnails --collection shop --thumbnail-space 20GB",
    ),
    "offload": (
        "simdist offload s3://bucket/vectors --collection shop --bits 2",
        "simdist offload --collection shop --back",
    ),
    "train": (
        "simdist train photos/ --arch efficientnet-lite0 --out my-model",
        "simdist train photos/ --arch convnext --out my-model",
    ),
    "convert": ("simdist convert export.pkl --arch resnet34 --out my-model --trust",),
    "eval": ("simdist eval --collection shop --plot precision.png",),
    "plan": ("simdist plan --images 100M --qps 50 --gpus 8",),
}


class Command(TyperCommand):
    """A command whose options stand in sections, with examples below them."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The options, then each argument under the name that the help below gives it."""
        arguments = [one for one in self.get_params(ctx) if isinstance(one, TyperArgument)]
        return ["[OPTIONS]", *(str(one.metavar) for one in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write each section that has something in it."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in _SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if isinstance(parameter, TyperArgument):
                sections["Arguments"].append((str(parameter.metavar), record[1]))
            else:
                name = getattr(parameter, "rich_help_panel", None) or "Options"
                sections[name].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, each on a line of its own however long it is."""
        examples = EXAMPLES.get(_full_name(ctx), ())
        if examples:
            with formatter.section("Examples"):
                for example in examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def _full_name(ctx: Any) -> str:
    """Such as "collections list"."""
    above = ctx.parent
    return f"{_full_name(above)} {ctx.info_name}" if above and above.parent else str(ctx.info_name)
