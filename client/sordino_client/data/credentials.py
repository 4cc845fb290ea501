"""Passwords that a source needs: in a file that its owner alone may read, or passed by systemd.

`credential:NAME` is the file `NAME` that systemd put below `$CREDENTIALS_DIRECTORY`
(`LoadCredential=`), where the directory is what keeps others out. No error here repeats a content.
"""

import os
from pathlib import Path

from sordino_protocols.errors import InputError
from sordino_protocols.files import read_secret_text, read_text
from sordino_protocols.signing import check_name

_PREFIX = "credential:"
_DIRECTORY = "CREDENTIALS_DIRECTORY"


def is_credential(path: Path) -> bool:
    """Whether it names a credential of systemd's and not a file."""
    return str(path).startswith(_PREFIX)


def read_private(path: Path) -> str:
    """The content of a private file or credential.

    Raises:
        NotFoundError: there is no such file.
        InputError: it cannot be read, or others than its owner may read it.
    """
    if is_credential(path):
        return read_text(_passed(path))
    return read_secret_text(path)


def _passed(path: Path) -> Path:
    directory = os.environ.get(_DIRECTORY)
    if not directory:
        raise InputError(f"{path}: no credentials were passed; add LoadCredential= to the unit")
    return Path(directory) / check_name(str(path).removeprefix(_PREFIX))
