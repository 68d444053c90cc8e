"""The embedded server as tests strike it: its keeper, and containers that share its folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import psutil


def keeper_of(data: Path) -> psutil.Process:
    [keeper] = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(data) in part for part in process.info["cmdline"] or [])
        and any(part.endswith("keeper.py") for part in process.info["cmdline"])
    ]
    return keeper


def in_a_container(*command: str) -> list[str]:
    """A command in mount and network namespaces of its own, without what /tmp has of simdist."""
    folder = Path(tempfile.gettempdir(), f"simdist-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    script = 'mount -t tmpfs -o mode=700 tmpfs "$0" && exec "$@"'
    return ["unshare", "--mount", "--net", "bash", "-c", script, str(folder), *command]
