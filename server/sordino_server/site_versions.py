"""Which version of the wire each site understands, and questions sealed in it.

Servers and sites are not upgraded in the same minute. A site is asked in the newest version; one
that is older cannot read that, says so in a version that it has, and is asked in that one from then
on. A site can make itself older only, and only for itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from sordino_protocols.messages import WIRE_VERSION, Refusal, Refused, Request
from sordino_protocols.signing import Signer
from sordino_protocols.wire import Opened, seal


class SiteVersions:
    """What the server learned of its sites' versions. Nothing of a run."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._log = structlog.get_logger(component="server")

    def of(self, site: str) -> int:
        """The version to ask a site in."""
        return self._versions.get(site, WIRE_VERSION)

    def learn(self, site: str, opened: Opened) -> bool:
        """Whether an answer says that the site reads an older version only; then it is noted."""
        # Who could not read a question cannot name its run.
        if opened.message != Refused("", Refusal.MALFORMED) or opened.version >= self.of(site):
            return False
        self._versions[site] = opened.version
        self._log.warning(
            "site_speaks_older_wire", site=site, version=opened.version, ours=WIRE_VERSION
        )
        return True


@dataclass(frozen=True, slots=True)
class SealedRequests:
    """What to ask each site, sealed once for each version: a repetition has the same bytes.

    Attributes:
        requests: by site.
        signer: the server's own key.
    """

    requests: Mapping[str, Request]
    signer: Signer
    _sealed: dict[tuple[int, int], bytes] = field(default_factory=dict, repr=False)

    def envelope(self, site: str, version: int) -> bytes:
        """A site's request; one that several sites share is the same object."""
        request = self.requests[site]
        key = (id(request), version)
        if key not in self._sealed:
            self._sealed[key] = seal(request, self.signer, version=version)
        return self._sealed[key]
