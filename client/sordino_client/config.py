"""`site.toml`: where a site keeps what, and which server it joins.

Paths are relative to the file, whichever layer says them. The vault reads `[site]` and `[training]`
and never `[link]`'s keys; the link reads `[link]` and never the site's directories. This module is
imported before the vault leaves the network, so it imports nothing that starts a thread, such as
numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from sordino_protocols.configuration import Layered, read_layers
from sordino_protocols.files import STRICT, with_absolute_paths
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
        keep_releases_days: how long the releases of a settled run are kept, to be re-sent to a
            server that was put back to an earlier day.
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
    keep_releases_days: Annotated[float, Field(ge=1, le=36_500)] = 30.0


class LinkSection(BaseModel):
    """`[link]`: the process with the network.

    Attributes:
        server: `host:port` of the server's public listener.
        ca_certificate: the one certificate authority to trust.
        node_key: this site's node key, EC P-384 in OpenSSH format.
        certificate: this site's TLS certificate, for a server that asks for one; absent: none.
        private_key: its key.
        metrics: `host:port` for Prometheus; absent, none are served.
    """

    model_config = STRICT

    server: Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")]
    ca_certificate: Path
    node_key: Path
    certificate: Path | None = None
    private_key: Path | None = None
    metrics: Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")] | None = None

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key: expected both, or neither")
        return self


class TrainingSection(BaseModel):
    """`[training]`: how fast the vault computes; nothing here touches privacy.

    Attributes:
        device: "cuda" trains on a graphics processor; the vault must be allowed to open it.
        compile: compile what is run often: seconds at the first round, fewer afterwards.
    """

    model_config = STRICT

    device: Literal["cpu", "cuda"] = "cpu"
    compile: bool = False


class LogSection(BaseModel):
    """`[log]`: how much both processes say.

    Attributes:
        level: the least important events that are logged.
    """

    model_config = STRICT

    level: Literal["debug", "info", "warning", "error"] = "info"


class SiteFile(BaseModel):
    """The whole file."""

    model_config = STRICT

    site: SiteSection
    link: LinkSection
    training: TrainingSection = TrainingSection()
    log: LogSection = LogSection()


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """A site's configuration with absolute paths."""

    path: Path
    directory: Path
    site: SiteSection
    link: LinkSection
    training: TrainingSection
    log: LogSection

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


def read_site(path: Path, environ: Mapping[str, str] | None = None) -> Layered[SiteFile]:
    """Read `site.toml` with its drop-ins, `site.d`, and what the environment says.

    Args:
        path: the file.
        environ: the environment; None means this process's.

    Raises:
        NotFoundError: no such file.
        InputError: names file (or variable), key and what was expected.
    """
    return read_layers(path, SiteFile, role="site", environ=environ)


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> SiteConfig:
    """A site's configuration, in all its layers; see `read_site`.

    Raises:
        NotFoundError: no such file.
        InputError: names file (or variable), key and what was expected.
    """
    file = read_site(path, environ).value
    directory = path.absolute().parent
    return SiteConfig(
        path=path.absolute(),
        directory=directory,
        site=with_absolute_paths(file.site, directory),
        link=with_absolute_paths(file.link, directory),
        training=file.training,
        log=file.log,
    )
