"""`simdist status`."""

from __future__ import annotations

from dataclasses import asdict

from simdist.cli import options
from simdist.cli.render import (
    console,
    memory,
    plain,
    print_json,
    show,
    show_unreadable,
    table,
    with_unreadable,
)
from simdist.settings import Settings


def status(
    *,
    as_json: options.AsJson = False,
    redis: options.RedisUrl = None,
) -> None:
    """Show each collection's images, model, hash tables and memory."""
    from simdist.index.inventory import describe_all
    from simdist.store import open_store
    from simdist.store.refusals import hide_password

    with open_store(Settings.resolve(redis_url=redis)) as store:
        descriptions, unreadable = describe_all(store)
        address = hide_password(store.url)
        used = store.used_memory()
    if as_json:
        print_json(with_unreadable([asdict(one) for one in descriptions], unreadable))
        return
    out = console()
    if not descriptions and not unreadable:
        out.print("No collections yet. Make one with: simdist ingest FOLDER")
    if descriptions:
        numbers = ("images", "dim", "tables", "buckets", "memory")
        licence = ["licence"] if any(item.licence for item in descriptions) else []
        columns = ("collection", "images", "model", *licence, "dim", "tables", "memory")
        rows = table(*columns, right=numbers)
        for item in descriptions:
            tables = f"{item.tables} x {item.buckets:,} {item.family}" if item.family else "none"
            rows.add_row(
                item.name,
                f"{item.images:,}",
                item.model,
                *[plain(item.licence) for _ in licence],
                f"{item.dim:,}",
                tables,
                memory(item.memory_bytes),
            )
        show(out, rows)
        for item in descriptions:
            if item.moved_to:
                here = "1 bit" if item.bits == 1 else f"{item.bits} bits"
                what = (
                    f"{item.name}: {here} of each value in memory, the vectors in {item.moved_to}"
                )
                out.print(plain(what), highlight=False)
    show_unreadable(out, unreadable)
    out.print(f"Server: {address}, {memory(used)} in use", markup=False)
