"""What a listing meets and passes over: hidden files, thumbnails, and what is no image."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

# Thumbnails and bins of file managers and network drives, and what systems leave in folders.
_SYSTEM = frozenset(
    {"@eadir", "@recycle", "#recycle", "@recently-snapshot", "#snapshot", "$recycle.bin"}
    | {"system volume information", "lost+found", "__macosx", "thumbs.db", "ehthumbs.db"}
    | {"desktop.ini", "@syno", "@tmp"}
)
# A folder with this is one that galleries leave out.
NO_MEDIA = ".nomedia"
# Suffixes that are counted one by one, and their characters.
_MOST = 100
_LONGEST = 12


@dataclass
class PassedOver:
    """Counts what is passed over, by its suffix or by what it is.

    Attributes:
        hidden: take also what is hidden, a thumbnail or a system's.
        counts: such as {".mov": 3, "hidden": 1}.
    """

    hidden: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def leaves_out(self, name: str, *, folder: bool = False) -> bool:
        """Whether a file or a folder of this name is left out; it is counted."""
        kind = self.kind(name)
        if kind:
            self.counts[f"{kind} folders" if folder else kind] += 1
        return kind is not None

    def leaves_out_path(self, path: str) -> bool:
        """As `leaves_out`, for the names between the slashes of what is listed as a whole."""
        *folders, last = path.split("/")
        return any(self.kind(name) and self.leaves_out(name) for name in folders) or (
            self.leaves_out(last)
        )

    def kind(self, name: str) -> str | None:
        """What a name is of, 'hidden' or 'system'; None if it is to be looked at."""
        if self.hidden or name in (".", ".."):  # a store's key may have such parts
            return None
        if name.startswith("."):
            return "hidden"
        return "system" if name.lower() in _SYSTEM else None

    def note(self, name: str) -> None:
        """Count a file that is no image by its name."""
        suffix = os.path.splitext(name)[1].lower()
        if len(suffix) > _LONGEST or not suffix.isprintable():
            suffix = "other"
        if len(self.counts) >= _MOST and suffix not in self.counts:
            suffix = "other"
        self.counts[suffix or "no suffix"] += 1
