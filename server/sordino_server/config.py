"""`server.toml`: where the server keeps what, and where it listens. Paths are relative to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.configuration import Layered, read_layers
from sordino_protocols.files import STRICT, with_absolute_paths
from sordino_protocols.job_sections import Name

Address = Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")]


class ServerSection(BaseModel):
    """`[server]`.

    Attributes:
        name: what sites call this server: the stem of its public key's file.
        state: directory of the SuperLink's database and of all runs; 0700.
        state_url_file: a file, 0600, with the URL of a PostgreSQL database in which runs and
            remembered heads lie instead; the SuperLink's own database stays in `state`.
        public: `host:port` that sites connect to.
        admin_port: port on loopback for the server's own app; 0 picks a free one.
        certificate: the server's TLS certificate with its chain.
        private_key: its key.
        signing_key: Ed25519; signs every message to a site.
        sites: directory of the sites' Ed25519 public keys; a site without one is not believed.
        nodes: directory of the sites' node keys, OpenSSH; a site without one is not let in.
        submitters: directory of the data scientists' public keys.
        client_ca: whose certificates sites must show to connect at all, before their node key is
            looked at; absent: none. Its revocation list lies beside it: `ca.crl` for `ca.crt`.
    """

    model_config = STRICT

    name: Name
    state: Path
    state_url_file: Path | None = None
    public: Address
    admin_port: Annotated[int, Field(ge=0, le=65535)] = 0
    certificate: Path
    private_key: Path
    signing_key: Path
    sites: Path
    nodes: Path
    submitters: Path
    client_ca: Path | None = None


class GatewaySection(BaseModel):
    """`[gateway]`: the front desk for data scientists.

    Attributes:
        address: `host:port`.
        client_ca: whose client certificates are let in; its revocation list lies beside it.
    """

    model_config = STRICT

    address: Address
    client_ca: Path


class MetricsSection(BaseModel):
    """`[metrics]`: Prometheus."""

    model_config = STRICT

    address: Address


class PageSection(BaseModel):
    """`[page]`: the status page, read-only, without a login.

    Attributes:
        address: `host:port`, on loopback unless a proxy that asks who reads it stands before it.
    """

    model_config = STRICT

    address: Address


class LogSection(BaseModel):
    """`[log]`: how much the server says.

    Attributes:
        level: the least important events that are logged.
    """

    model_config = STRICT

    level: Literal["debug", "info", "warning", "error"] = "info"


class ServerFile(BaseModel):
    """The whole file."""

    model_config = STRICT

    server: ServerSection
    gateway: GatewaySection
    metrics: MetricsSection | None = None
    page: PageSection | None = None
    log: LogSection = LogSection()


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A server's configuration with absolute paths."""

    path: Path
    server: ServerSection
    gateway: GatewaySection
    metrics: MetricsSection | None
    page: PageSection | None
    log: LogSection

    @property
    def runs_directory(self) -> Path:
        """One directory a run."""
        return self.server.state / "runs"

    @property
    def heads_directory(self) -> Path:
        """What the server remembers of the sites' ledgers."""
        return self.server.state / "heads"

    @property
    def audit_log_path(self) -> Path:
        """The record of what was decided at this server."""
        return self.server.state / "audit.log"


def read_server(path: Path, environ: Mapping[str, str] | None = None) -> Layered[ServerFile]:
    """Read `server.toml` with its drop-ins, `server.d`, and what the environment says.

    Args:
        path: the file.
        environ: the environment; None means this process's.

    Raises:
        NotFoundError: no such file.
        InputError: names file (or variable), key and what was expected.
    """
    return read_layers(path, ServerFile, role="server", environ=environ)


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> ServerConfig:
    """A server's configuration, in all its layers; see `read_server`.

    Raises:
        NotFoundError: no such file.
        InputError: names file (or variable), key and what was expected.
    """
    file = read_server(path, environ).value
    directory = path.absolute().parent
    return ServerConfig(
        path=path.absolute(),
        server=with_absolute_paths(file.server, directory),
        gateway=with_absolute_paths(file.gateway, directory),
        metrics=file.metrics,
        page=file.page,
        log=file.log,
    )
