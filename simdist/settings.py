"""Where a setting comes from: a flag, else an environment variable, else the default."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from simdist.errors import UsageError

DEFAULT_COLLECTION = "images"
DEFAULT_MODEL = "resnet34"
# Up to four times as many images cost no more memory each.
DEFAULT_EXPECT = 500_000
MAX_PARTITIONS = 1024
# Images that are sorted together before they are committed: the more, the more of a batch belong
# into the same bucket, which is written once, and read at once by a cold worker.
SORTED = 32_768
# Below the data folder: small pictures of what services have shown.
THUMBNAILS = "thumbnails"
DEFAULT_RESULTS = 5
MAX_RESULTS = 10_000

REDIS_URL_VARIABLE = "SIMDIST_REDIS_URL"
REDIS_PASSWORD_VARIABLE = "SIMDIST_REDIS_PASSWORD"  # noqa: S105 (a name)
REDIS_PASSWORD_FILE_VARIABLE = "SIMDIST_REDIS_PASSWORD_FILE"  # noqa: S105 (a name)
DATA_DIR_VARIABLE = "SIMDIST_DATA_DIR"
RAY_ADDRESS_VARIABLE = "RAY_ADDRESS"


@dataclass(frozen=True)
class Settings:
    """What every part of simdist needs to know about its surroundings.

    `redis_url` and `ray_address` are None where simdist starts its own.
    """

    redis_url: str | None
    ray_address: str | None
    data_dir: Path

    @classmethod
    def resolve(
        cls,
        *,
        redis_url: str | None = None,
        ray_address: str | None = None,
        data_dir: Path | None = None,
    ) -> Settings:
        """Fill in from the environment, then from the defaults, what is None here.

        Raises:
            UsageError: the data folder is to be in a home directory, and there is none.
        """
        try:
            folder = data_dir or os.environ.get(DATA_DIR_VARIABLE) or user_data_path("simdist")
            absolute = Path(folder).expanduser().absolute()
        except RuntimeError as error:
            raise UsageError(
                f"the data folder would be in a home directory, and there is none: name one with "
                f"{DATA_DIR_VARIABLE}"
            ) from error
        return cls(
            redis_url=redis_url or os.environ.get(REDIS_URL_VARIABLE) or None,
            ray_address=ray_address or os.environ.get(RAY_ADDRESS_VARIABLE) or None,
            data_dir=absolute,
        )


def redis_password() -> str | None:
    """The password for a Redis whose URL holds none: the environment's, or that of a file it names.

    Every process that connects asks for it, so that it need not travel in the URL, which command
    lines and Ray's dashboard show.

    Raises:
        UsageError: the file cannot be read.
    """
    password = os.environ.get(REDIS_PASSWORD_VARIABLE)
    file = os.environ.get(REDIS_PASSWORD_FILE_VARIABLE)
    if not password and file:
        try:
            password = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read the password of Redis in {file} ({error}): correct "
                f"{REDIS_PASSWORD_FILE_VARIABLE}"
            ) from error
    return password or None
