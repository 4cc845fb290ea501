"""Files in an S3 object store, through fsspec. Only the reader process opens one.

Credentials come from a private file that the admin names, or from where the provider's own tools
look for them; no error repeats one.
"""

from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa
from pydantic import BaseModel

from sordino_client.data.credentials import read_private
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT, parse_toml

READ_ERRORS = (pa.ArrowException, OSError)
"""What opening a file raises, and reading one that lies on this machine."""


class ObjectStoreOptions(BaseModel):
    """`options_file`: how to reach the store; all absent: as the environment says.

    Attributes:
        endpoint_url: of a store that is not Amazon's.
        key: access key.
        secret: its secret.
        token: of a temporary key.
        region: of the bucket.
        anonymous: send no credentials at all.
    """

    model_config = STRICT

    endpoint_url: str | None = None
    key: str | None = None
    secret: str | None = None
    token: str | None = None
    region: str | None = None
    anonymous: bool = False


class _FileSystem(Protocol):
    """What is used of `fsspec.AbstractFileSystem`."""

    def glob(self, path: str) -> list[str]: ...
    def open(self, path: str, mode: str, *, cache_type: str) -> BinaryIO: ...


class ObjectStore:
    """A store that can be read."""

    def __init__(self, files: _FileSystem, errors: tuple[type[Exception], ...]) -> None:
        self._files = files
        self._errors: tuple[type[Exception], ...] = (OSError, *errors)

    def find(self, url: str) -> list[str]:
        """`bucket/key` of every object that the URL names, sorted.

        Raises:
            InputError: there is none, or the store cannot be asked.
        """
        path, reason = url.removeprefix("s3://"), "no object has such a name"
        try:
            found = sorted(self._files.glob(path))
        except self._errors as error:
            found, reason = list[str](), f"the object store cannot be read: {type(error).__name__}"
        if not found:
            raise InputError(f"{url}: {reason}")
        return found

    def open(self, path: str, *, in_order: bool) -> BinaryIO:
        """An object's bytes; what is not asked for is not fetched, unless it is read in order.

        Raises:
            OSError: it cannot be opened.
        """
        try:
            return self._files.open(path, "rb", cache_type="readahead" if in_order else "none")
        except self._errors as error:
            name = type(error).__name__
        raise OSError(name)


def open_store(options_file: Path | None, *, timeout_seconds: float) -> ObjectStore:
    """The store that the options name.

    Raises:
        NotFoundError: there is no such options file.
        InputError: it is not private, or breaks its rules.
    """
    # Not in a process that opens no store: it takes half a second, and a network.
    import fsspec  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    options = ObjectStoreOptions()
    if options_file is not None:
        text = read_private(options_file)
        options = parse_toml(text, ObjectStoreOptions, source=str(options_file))
    files = fsspec.filesystem(
        "s3",
        anon=options.anonymous,
        endpoint_url=options.endpoint_url,
        key=options.key,
        secret=options.secret,
        token=options.token,
        client_kwargs={} if options.region is None else {"region_name": options.region},
        config_kwargs={"read_timeout": timeout_seconds, "connect_timeout": timeout_seconds},
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return ObjectStore(files, (BotoCoreError, ClientError))
