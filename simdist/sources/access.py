"""How object stores are reached: endpoint, region, and whether requests are signed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from simdist.errors import UsageError

# What a store calls its settings, and which environment variables hold them, the first first.
# None of these is a secret: credentials stay in the environment of each process.
_SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "s3": {
        "aws_endpoint_url_s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "skip_signature": ("AWS_SKIP_SIGNATURE",),
    },
    "gs": {
        "base_url": ("GOOGLE_BASE_URL",),
        "skip_signature": ("GOOGLE_SKIP_SIGNATURE",),
    },
    "az": {
        "account_name": ("AZURE_STORAGE_ACCOUNT_NAME",),
        "endpoint": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        "skip_signature": ("AZURE_SKIP_SIGNATURE",),
    },
}
SCHEMES = tuple(_SETTINGS)
_ENDPOINTS = ("aws_endpoint_url_s3", "base_url", "endpoint")


@dataclass(frozen=True)
class Access:
    """How to reach the object stores.

    Resolved where the command runs, and sent along with the work, so that all workers ask the
    same store. Credentials are not: each process finds its own in the usual places.

    Attributes:
        settings: (scheme, name of the setting, value).
    """

    settings: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def resolve(
        cls,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        anonymous: bool = False,
        before: Access | None = None,
    ) -> Access:
        """From flags, else as it was `before`, else from the stores' usual environment variables.

        Raises:
            UsageError: an endpoint that is no http(s) address.
        """
        flags = dict.fromkeys(_ENDPOINTS, endpoint_url)
        flags |= {"region": region, "skip_signature": "true" if anonymous else None}
        return cls(tuple(_resolved(flags, before or cls())))

    def of(self, uri: str) -> Access:
        """The part of it that matters for a URI."""
        scheme = uri.partition("://")[0]
        return Access(tuple(setting for setting in self.settings if setting[0] == scheme))

    def config(self, scheme: str) -> dict[str, str]:
        """The settings of one kind of store."""
        return {name: value for kind, name, value in self.settings if kind == scheme}

    def endpoint(self, scheme: str) -> str | None:
        """The endpoint that the user has named for a kind of store, if any."""
        config = self.config(scheme)
        return next((config[name] for name in _ENDPOINTS if name in config), None)


def _resolved(flags: dict[str, str | None], before: Access) -> Iterator[tuple[str, str, str]]:
    for scheme, settings in _SETTINGS.items():
        for name, variables in settings.items():
            found = (os.environ.get(variable) for variable in variables)
            value = flags.get(name) or before.config(scheme).get(name)
            value = value or next(filter(None, found), None)
            if value:
                yield scheme, name, _checked(value) if name in _ENDPOINTS else value


def _checked(endpoint: str) -> str:
    """An address that the store's client takes: it panics on some others."""
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        private = parts.username is not None or parts.password is not None
    except ValueError:
        sound, private = False, False
    if private:
        raise UsageError("an endpoint holds no user or password: set the credentials' variables")
    if not sound:
        raise UsageError(
            f"{endpoint!r} is not an endpoint: give an address such as https://minio.example:9000"
        )
    return endpoint
