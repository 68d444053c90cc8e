"""Where images come from."""

from simdist.sources.access import Access
from simdist.sources.columns import Columns
from simdist.sources.folder import list_folder
from simdist.sources.reading import is_web_address, read_bytes, read_many
from simdist.sources.reference import (
    ImageRef,
    ListingFailure,
    file_uri,
    local_path,
    prefix_of,
    uri_of,
    uri_path,
)
from simdist.sources.selection import LabelFrom, Selection
from simdist.sources.source import (
    Source,
    open_source,
)

__all__ = [
    "Access",
    "Columns",
    "ImageRef",
    "LabelFrom",
    "ListingFailure",
    "Selection",
    "Source",
    "file_uri",
    "is_web_address",
    "list_folder",
    "local_path",
    "open_source",
    "prefix_of",
    "read_bytes",
    "read_many",
    "uri_of",
    "uri_path",
]
