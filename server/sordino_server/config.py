"""`server.toml`: where the server keeps what, and where it listens. Paths are relative to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from sordino_protocols.files import STRICT, read_toml, with_absolute_paths
from sordino_protocols.job_sections import Name

Address = Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")]


class ServerSection(BaseModel):
    """`[server]`.

    Attributes:
        name: what sites call this server: the stem of its public key's file.
        state: directory of the SuperLink's database and of all runs; 0700.
        public: `host:port` that sites connect to.
        admin_port: port on loopback for the server's own app; 0 picks a free one.
        certificate: the server's TLS certificate with its chain.
        private_key: its key.
        signing_key: Ed25519; signs every message to a site.
        sites: directory of the sites' Ed25519 public keys; a site without one is not believed.
        nodes: directory of the sites' node keys, OpenSSH; a site without one is not let in.
        submitters: directory of the data scientists' public keys.
    """

    model_config = STRICT

    name: Name
    state: Path
    public: Address
    admin_port: Annotated[int, Field(ge=0, le=65535)] = 0
    certificate: Path
    private_key: Path
    signing_key: Path
    sites: Path
    nodes: Path
    submitters: Path


class GatewaySection(BaseModel):
    """`[gateway]`: the front desk for data scientists.

    Attributes:
        address: `host:port`.
        client_ca: whose client certificates are let in.
    """

    model_config = STRICT

    address: Address
    client_ca: Path


class MetricsSection(BaseModel):
    """`[metrics]`: Prometheus."""

    model_config = STRICT

    address: Address


class ServerFile(BaseModel):
    """The whole file."""

    model_config = STRICT

    server: ServerSection
    gateway: GatewaySection
    metrics: MetricsSection | None = None


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A server's configuration with absolute paths."""

    path: Path
    server: ServerSection
    gateway: GatewaySection
    metrics: MetricsSection | None

    @property
    def runs_directory(self) -> Path:
        """One directory a run."""
        return self.server.state / "runs"

    @property
    def heads_directory(self) -> Path:
        """What the server remembers of the sites' ledgers."""
        return self.server.state / "heads"


def load_config(path: Path) -> ServerConfig:
    """Read `server.toml`.

    Raises:
        NotFoundError: no such file.
        InputError: names file, key and what was expected.
    """
    file = read_toml(path, ServerFile)
    directory = path.absolute().parent
    return ServerConfig(
        path=path.absolute(),
        server=with_absolute_paths(file.server, directory),
        gateway=with_absolute_paths(file.gateway, directory),
        metrics=file.metrics,
    )
