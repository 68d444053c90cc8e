"""What the command line has for the errors of the library: a command, or a flag."""

from __future__ import annotations

from simdist.errors import MissingCollectionError, Remedy, SimdistError

_COMMANDS = {
    Remedy.ANONYMOUS: "--anonymous",
    Remedy.ARCH: "--arch NAME",
    Remedy.BUNDLED_MODEL: "--weights FILE, or --model efficientnet-lite0; of train, "
    "--arch efficientnet-lite0",
    Remedy.CHECK: "simdist check --collection {about} --repair",
    Remedy.COLLECTION: "--collection NAME",
    Remedy.COLLECTIONS: "simdist collections list",
    Remedy.ENDPOINT: "--endpoint-url URL",
    Remedy.EXCLUDE: "--exclude CATEGORY",
    Remedy.HOST_AND_PORT: "--host ADDRESS, --port N",
    Remedy.INGEST: "simdist ingest FOLDER --collection {about}",
    Remedy.LABEL_FROM: "--label-from folder",
    Remedy.LICENCE: "--accept-licence",
    Remedy.NETWORK: "--endpoint-url URL, --region NAME",
    Remedy.OUT: "--out PATH",
    Remedy.RAY_ADDRESS: "--ray-address HOST:PORT",
    Remedy.REDIS: "--redis URL",
    Remedy.REGION: "--region NAME",
    Remedy.REHASH: "simdist rehash --collection {about}",
    Remedy.SERVE: "simdist serve",
    Remedy.STATUS: "simdist status",
    Remedy.TIMM_WEIGHTS: "--weights FILE, or --model timm:local-dir:FOLDER; of train, "
    "--arch timm:local-dir:FOLDER",
    Remedy.TOKEN: "SIMDIST_TOKEN",
    Remedy.TOKENS: "--tokens FILE",
    Remedy.TRUST: "--trust",
    Remedy.TUNE: "simdist tune --collection {about}",
    Remedy.URI_COLUMN: "--uri-column NAME",
    Remedy.WEIGHTS: "--weights FILE",
    Remedy.WHOLE_SOURCE: "--prune goes with neither --include nor --limit",
}


def with_remedy(error: SimdistError) -> str:
    """An error's message, with the command or the flag that helps behind it."""
    if error.remedy is None:
        return str(error)
    if isinstance(error, MissingCollectionError):
        there = f"there are: {', '.join(error.others)}" if error.others else "there is none yet"
        return f"{error} ({there}; {_COMMANDS[error.remedy].format(about=error.about)})"
    return f"{error} ({_COMMANDS[error.remedy].format(about=error.about)})"
