"""Whose signatures count at this moment, in a process that runs for days.

Trust is a directory of public keys (`signing.load_trust`). A running process looks again every few
seconds, so that a key that is gone counts no more, wherever in a run that is. Revoked certificates
are looked up in the same way. What must stay true: a file that cannot be read changes nothing for
those whose files can, and nothing is trusted because something could not be read.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sordino_protocols.errors import SordinoError
from sordino_protocols.revocations import revoked_serials
from sordino_protocols.signing import TrustStore, load_trust

LOOK_SECONDS = 2.0
"""How long a key may count after its file is gone."""

Clock = Callable[[], float]

_log = structlog.get_logger(component="server")


def live_trust(directory: Path, *, clock: Clock = time.monotonic) -> TrustStore:
    """Trust what the directory holds at each moment, or held `LOOK_SECONDS` ago.

    Raises:
        NotFoundError: there is no such directory.
        InputError: a file is no public key, or two files hold the same key.
    """
    live = _LiveDirectory(directory, clock)
    return TrustStore(_LiveKeys(lambda: live.now().keys), _LiveKeys(lambda: live.now().revoked))


class LiveRevocations:
    """The serial numbers on an authority's revocation list, read again every `LOOK_SECONDS`."""

    def __init__(self, authority: Path, *, clock: Clock = time.monotonic) -> None:
        """Read the list beside the authority's certificate; see `revocations.revoked_serials`."""
        self._authority = authority
        self._clock = clock
        self._looked_at = clock()
        self._serials = revoked_serials(authority)

    def is_revoked(self, serial: int) -> bool:
        """Whether the authority took the certificate with this serial number back."""
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = self._clock()
            try:
                # Never fewer: a list that was put back to an older one lets nobody in again.
                self._serials |= revoked_serials(self._authority)
            except SordinoError as error:
                _log.warning("revocations_unreadable", reason=str(error))
        return serial in self._serials


class _LiveDirectory:
    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._looked_at = clock()
        self._trust = load_trust(directory)

    def now(self) -> TrustStore:
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = self._clock()
            self._trust = self._read()
        return self._trust

    def _read(self) -> TrustStore:
        try:
            return load_trust(self._directory)
        except SordinoError as error:
            _log.warning("trust_unreadable", reason=str(error))
            there = {path.stem for path in self._directory.glob("*.pub")}
            left = {name: key for name, key in self._trust.keys.items() if name in there}
            return TrustStore(left, {**self._trust.revoked, **self._trust.keys})


class _LiveKeys(Mapping[str, Ed25519PublicKey]):
    def __init__(self, now: Callable[[], Mapping[str, Ed25519PublicKey]]) -> None:
        self._now = now

    def __getitem__(self, name: str) -> Ed25519PublicKey:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())
