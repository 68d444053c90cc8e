"""Where images come from."""

from simdist.sources.folder import list_folder, source_folder
from simdist.sources.reading import is_web_address, read_bytes
from simdist.sources.reference import ImageRef, ListingFailure, file_uri, uri_path

__all__ = [
    "ImageRef",
    "ListingFailure",
    "file_uri",
    "is_web_address",
    "list_folder",
    "read_bytes",
    "source_folder",
    "uri_path",
]
