"""`site.toml`: where a site keeps what, and which server it joins.

Paths are relative to the file. The vault reads `[site]` and `[training]` and never `[link]`'s keys;
the link reads `[link]` and never the site's directories. This module is imported before the vault
leaves the network, so it imports nothing that starts a thread, such as numpy.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.files import STRICT, read_toml, with_absolute_paths
from sordino_protocols.signing import NAME_PATTERN

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class SiteSection(BaseModel):
    """`[site]`: the vault.

    Attributes:
        name: what server, trust stores and certificates call this site.
        state: directory of ledger, outbox and admitted runs; 0700.
        socket: the Unix socket on which the vault answers the link.
        policy: `policy.toml`; if it is missing, everything is refused.
        datasets: directory with one file a data set.
        submitters: directory of public keys whose job signatures count.
        server_key: the server's public key.
        signing_key: this site's own key.
        approvers: directory of public keys whose yes counts where the policy asks for one; absent:
            `approvers` beside `site.toml`, and nobody where there is no such directory.
        admin_socket: the Unix socket on which people at the site decide; absent: `admin.sock` in
            `state`, where only the vault's own user can reach it.
        ledger_url_file: a file, 0600, with the SQLAlchemy URL of the ledger's database; absent: a
            SQLite file in `state`.
        mask_key: this site's X25519 key, with which it takes part in sums; absent: it takes part in
            none.
        peers: directory of the other sites' X25519 public keys, as their admins handed them over;
            absent: `peers` beside `site.toml`.
        cut_network: leave the network when the kernel allows it.
    """

    model_config = STRICT

    name: Name
    state: Path
    socket: Path
    policy: Path
    datasets: Path
    submitters: Path
    server_key: Path
    signing_key: Path
    approvers: Path | None = None
    admin_socket: Path | None = None
    ledger_url_file: Path | None = None
    mask_key: Path | None = None
    peers: Path | None = None
    cut_network: bool = True


class LinkSection(BaseModel):
    """`[link]`: the process with the network.

    Attributes:
        server: `host:port` of the server's public listener.
        ca_certificate: the one certificate authority to trust.
        node_key: this site's node key, EC P-384 in OpenSSH format.
        metrics: `host:port` for Prometheus; absent, none are served.
    """

    model_config = STRICT

    server: Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")]
    ca_certificate: Path
    node_key: Path
    metrics: Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")] | None = None


class TrainingSection(BaseModel):
    """`[training]`: how fast the vault computes; nothing here touches privacy.

    Attributes:
        device: "cuda" trains on a graphics processor; the vault must be allowed to open it.
        compile: compile what is run often: seconds at the first round, fewer afterwards.
    """

    model_config = STRICT

    device: Literal["cpu", "cuda"] = "cpu"
    compile: bool = False


class SiteFile(BaseModel):
    """The whole file."""

    model_config = STRICT

    site: SiteSection
    link: LinkSection
    training: TrainingSection = TrainingSection()


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """A site's configuration with absolute paths."""

    directory: Path
    site: SiteSection
    link: LinkSection
    training: TrainingSection

    @property
    def ledger_path(self) -> Path:
        """The budget ledger's file."""
        return self.site.state / "ledger.db"

    @property
    def approvers(self) -> Path:
        """The directory of the approvers' keys; it need not be there."""
        return self.site.approvers or self.directory / "approvers"

    @property
    def peers(self) -> Path:
        """The directory of the other sites' keys for sums; read where `mask_key` is set."""
        return self.site.peers or self.directory / "peers"

    @property
    def admin_socket(self) -> Path:
        """The socket for people at the site."""
        return self.site.admin_socket or self.site.state / "admin.sock"

    @property
    def witness_path(self) -> Path:
        """What the site noted of its own training, for its own audit."""
        return self.site.state / "witness"

    @property
    def audit_log_path(self) -> Path:
        """The record of what was decided at this site."""
        return self.site.state / "audit.log"


def load_config(path: Path) -> SiteConfig:
    """Read `site.toml`.

    Raises:
        NotFoundError: no such file.
        InputError: names file, key and what was expected.
    """
    file = read_toml(path, SiteFile)
    directory = path.absolute().parent
    return SiteConfig(
        directory=directory,
        site=with_absolute_paths(file.site, directory),
        link=with_absolute_paths(file.link, directory),
        training=file.training,
    )
