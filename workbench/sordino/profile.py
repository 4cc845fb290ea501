"""A data scientist's profile: which server, and with which keys."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from sordino_protocols.configuration import Layered, read_layers
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT, with_absolute_paths
from sordino_protocols.job_sections import Name
from sordino_protocols.standard_paths import default_config

VARIABLE = "SORDINO_PROFILE"


class Profile(BaseModel):
    """`[profile]`; paths are relative to the file.

    Attributes:
        name: what trust stores know the signing key by.
        gateway: `host:port` of the server's front desk.
        ca_certificate: the one certificate authority to trust.
        certificate: this person's client certificate.
        private_key: its key.
        signing_key: Ed25519; signs jobs.
    """

    model_config = STRICT

    name: Name
    gateway: Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")]
    ca_certificate: Path
    certificate: Path
    private_key: Path
    signing_key: Path


class ProfileFile(BaseModel):
    """The whole file."""

    model_config = STRICT

    profile: Profile


def read_profile(path: Path, environ: Mapping[str, str] | None = None) -> Layered[ProfileFile]:
    """Read a profile with its drop-ins and what the environment says.

    Args:
        path: the file.
        environ: the environment; None means this process's.

    Raises:
        NotFoundError: the file does not exist.
        InputError: names file (or variable), key and what was expected.
    """
    return read_layers(path, ProfileFile, role="profile", environ=environ)


def load_profile(path: Path | None = None) -> Profile:
    """Read the profile named by `path`, by SORDINO_PROFILE, or in the user's configuration.

    Raises:
        NotFoundError: the file does not exist.
        InputError: names file (or variable), key and what was expected.
    """
    chosen = path or _default()
    profile = read_profile(chosen).value.profile
    return with_absolute_paths(profile, chosen.absolute().parent)


def _default() -> Path:
    if named := os.environ.get(VARIABLE):
        return Path(named)
    default = default_config("profile")
    if not default.exists():
        raise InputError(
            f"no profile: {default} does not exist, and neither --profile nor {VARIABLE} is given"
        )
    return default
