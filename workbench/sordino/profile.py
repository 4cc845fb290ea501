"""A data scientist's profile: which server, and with which keys."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT, read_toml, with_absolute_paths
from sordino_protocols.job_sections import Name

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


def load_profile(path: Path | None = None) -> Profile:
    """Read the profile named by `path`, by SORDINO_PROFILE, or in the user's configuration.

    Raises:
        NotFoundError: the file does not exist.
        InputError: names file, key and what was expected.
    """
    chosen = path or _default()
    profile = read_toml(chosen, ProfileFile).profile
    return with_absolute_paths(profile, chosen.absolute().parent)


def _default() -> Path:
    if named := os.environ.get(VARIABLE):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    default = Path(home) / "sordino" / "profile.toml"
    if not default.exists():
        raise InputError(
            f"no profile: {default} does not exist, and neither --profile nor {VARIABLE} is given"
        )
    return default
