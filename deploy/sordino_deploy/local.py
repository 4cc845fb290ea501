"""A whole federation on this machine: real processes, real keys, real boundaries.

A server, and for every site a vault and a link, each a process of its own with its own files, as
they would lie on hosts of their own. Everything listens on loopback. For demos, system tests and
benchmarks; a production federation has the same files, on many machines.
"""

import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sordino_client.config import SiteConfig
from sordino_client.config import load_config as load_site_config
from sordino_client.synthesis.mask_keys import PUBLIC_SUFFIX, SECRET_SUFFIX, save_mask_keypair
from sordino_deploy import pki
from sordino_deploy.issued import record
from sordino_deploy.keeper import Keeper
from sordino_deploy.processes import Child, Supervisor, free_ports
from sordino_deploy.self_testing import start_self_test, wait_tested
from sordino_protocols.errors import InputError
from sordino_protocols.flower_environment import environment
from sordino_protocols.signing import save_keypair
from sordino_server.ports import PORTS, read_ports

_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_READY_SECONDS = 90.0
_SERVER = "server"


@dataclass(frozen=True, slots=True)
class LocalSite:
    """What one site of a local federation brings.

    Attributes:
        name: the site's name.
        dataset: text of its data set file.
        records: the file that the data set file names, beside it.
        policy: text of its policy; None for a site without one, which refuses everything.
    """

    name: str
    dataset: str
    records: Path
    policy: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a local federation keeps what, below one directory."""

    root: Path

    @property
    def server(self) -> Path:
        """The server's host."""
        return self.root / "server"

    @property
    def scientist(self) -> Path:
        """The data scientist's machine."""
        return self.root / "scientist"

    @property
    def logs(self) -> Path:
        """Output of every process."""
        return self.root / "logs"

    def site(self, name: str) -> Path:
        """A site's host."""
        return self.root / "sites" / name

    def site_config(self, name: str) -> SiteConfig:
        """A site's configuration."""
        return load_site_config(self.site(name) / "site.toml")


class LocalFederation:
    """Processes of one federation. Use inside the `with` block of a `Supervisor`."""

    def __init__(
        self, root: Path, sites: Sequence[LocalSite], *, submitter: str = "scientist"
    ) -> None:
        """Plan a federation below `root`, which must be empty or absent.

        Raises:
            InputError: there is something in `root` already.
        """
        if root.exists() and any(root.iterdir()):
            raise InputError(f"{root}: not empty; choose another directory")
        self.layout = Layout(root.absolute())
        self.sites = tuple(sites)
        self._submitter = submitter
        # Unix sockets have short names: not below a directory of unknown depth.
        self._sockets = Path(tempfile.mkdtemp(prefix="sordino-"))
        self._public, self._gateway, self._metrics, self._page, *links = free_ports(
            4 + len(self.sites)
        )
        self._link_metrics = dict(zip([site.name for site in self.sites], links, strict=True))

    @property
    def submitter_profile(self) -> Path:
        """The profile with which the data scientist's `sordino` finds this federation."""
        return self.layout.scientist / "profile.toml"

    def prepare(self) -> None:
        """Make every key, certificate and configuration file."""
        layout = self.layout
        authority = pki.create_authority(layout.root / "authority", name="local-authority")
        ca = layout.root / "authority" / "ca.crt"
        self._prepare_server(authority, ca)
        self._prepare_scientist(authority, ca)
        for site in self.sites:
            self._prepare_site(site, authority, ca)
        for site in self.sites:
            self._pin_masks(site)

    def start(self, supervisor: Supervisor) -> dict[str, Child]:
        """Start everything; vaults once their code was tested, see `wait_ready`.

        Raises:
            ViolationError: the code failed its self-test; names the log.
        """
        # The longest way first: no vault starts before its code was tested.
        tested = start_self_test(
            supervisor, self._site_files(), logs=self.layout.logs, env=_environment()
        )
        children = {_SERVER: self.start_server(supervisor)}
        for site in self.sites:
            children[f"{site.name}-link"] = self.start_link(supervisor, site.name)
        if tested is not None:
            wait_tested(supervisor, tested)
        for site in self.sites:
            children[f"{site.name}-vault"] = self.start_vault(supervisor, site.name)
        return children

    def keep(self, keeper: Keeper, supervisor: Supervisor, children: Mapping[str, Child]) -> None:
        """Have every process of `children` started again whenever it ends."""
        keeper.keep(children[_SERVER], partial(self.start_server, supervisor))
        for site in self.sites:
            start_vault = partial(self.start_vault, supervisor, site.name)
            keeper.keep(children[f"{site.name}-vault"], start_vault)
            start_link = partial(self.start_link, supervisor, site.name)
            keeper.keep(children[f"{site.name}-link"], start_link)

    def start_server(self, supervisor: Supervisor) -> Child:
        """Start the server's daemon."""
        # What one that was killed left behind must not look like being ready.
        (self.layout.server / "state" / PORTS).unlink(missing_ok=True)
        return self._start(
            supervisor, _SERVER, "sordino_server.server_process", self.layout.server / "server.toml"
        )

    def start_vault(self, supervisor: Supervisor, site: str) -> Child:
        """Start a site's vault."""
        self._socket(site).unlink(missing_ok=True)
        config = self.layout.site(site) / "site.toml"
        return self._start(supervisor, f"{site}-vault", "sordino_client.vault_process", config)

    def start_link(
        self, supervisor: Supervisor, site: str, *, config_name: str = "site.toml"
    ) -> Child:
        """Start a site's link, with another file of the site's directory if one is named."""
        config = self.layout.site(site) / config_name
        return self._start(supervisor, f"{site}-link", "sordino_client.link_process", config)

    def wait_ready(self, supervisor: Supervisor, children: Mapping[str, Child]) -> None:
        """Return when the server serves and every vault answers on its socket.

        Raises:
            UnreachableError: something did not come up; with the end of its log.
        """
        self.wait_server(supervisor, children)
        self.wait_vaults(supervisor, children)

    def wait_server(self, supervisor: Supervisor, children: Mapping[str, Child]) -> None:
        """Return when the server serves: jobs can be submitted, and wait for the sites.

        Raises:
            UnreachableError: it did not come up; with the end of its log.
        """
        state = self.layout.server / "state"
        supervisor.wait_ready(
            children[_SERVER],
            lambda: read_ports(state) is not None,
            timeout_seconds=_READY_SECONDS,
        )

    def wait_vaults(self, supervisor: Supervisor, children: Mapping[str, Child]) -> None:
        """Return when every vault answers on its socket.

        Raises:
            UnreachableError: one did not come up, say for a wrong file; with the end of its log.
        """
        for site in self.sites:
            socket = self._socket(site.name)
            supervisor.wait_ready(
                children[f"{site.name}-vault"], socket.exists, timeout_seconds=_READY_SECONDS
            )

    def close(self) -> None:
        """Remove the sockets' directory; everything else stays for the reader."""
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _start(self, supervisor: Supervisor, name: str, module: str, config: Path) -> Child:
        return supervisor.start(
            name,
            [sys.executable, "-m", module, str(config)],
            env=_environment(),
            log=self.layout.logs / f"{name}.log",
        )

    def _site_files(self) -> list[Path]:
        return [self.layout.site(site.name) / "site.toml" for site in self.sites]

    def _socket(self, site: str) -> Path:
        return self._sockets / f"{site}.sock"

    def _prepare_server(self, authority: pki.Authority, ca: Path) -> None:
        server = self.layout.server
        pki.issue_server(authority, server / "tls")
        save_keypair(server / "keys", _SERVER)
        for directory in ("sites", "nodes", "submitters"):
            (server / directory).mkdir()
        _write(
            server / "server.toml",
            f"""\
            [server]
            name = "{_SERVER}"
            state = "state"
            public = "127.0.0.1:{self._public}"
            certificate = "tls/server.crt"
            private_key = "tls/server.key"
            signing_key = "keys/{_SERVER}.key"
            sites = "sites"
            nodes = "nodes"
            submitters = "submitters"
            client_ca = "{ca}"

            [gateway]
            address = "127.0.0.1:{self._gateway}"
            client_ca = "{ca}"

            [metrics]
            address = "127.0.0.1:{self._metrics}"

            [page]
            address = "127.0.0.1:{self._page}"
            """,
        )

    def _prepare_scientist(self, authority: pki.Authority, ca: Path) -> None:
        scientist, name = self.layout.scientist, self._submitter
        shown = pki.issue_client(authority, scientist / "tls", name=name)
        record(ca.parent, shown.read_bytes())
        save_keypair(scientist / "keys", name)
        pki.trust(scientist / "keys" / f"{name}.pub", self.layout.server / "submitters")
        _write(
            self.submitter_profile,
            f"""\
            [profile]
            name = "{name}"
            gateway = "127.0.0.1:{self._gateway}"
            ca_certificate = "{ca}"
            certificate = "tls/{name}.crt"
            private_key = "tls/{name}.key"
            signing_key = "keys/{name}.key"
            """,
        )

    def _prepare_site(self, site: LocalSite, authority: pki.Authority, ca: Path) -> None:
        here, server = self.layout.site(site.name), self.layout.server
        shown = pki.issue_client(authority, here / "link", name=site.name, role=pki.Role.SITE)
        record(ca.parent, shown.read_bytes())
        save_keypair(here / "keys", site.name)
        node_key = pki.create_node_key(here / "keys", site.name)
        save_mask_keypair(here / "keys", site.name)
        pki.trust(here / "keys" / f"{site.name}.pub", server / "sites")
        shutil.copyfile(
            node_key.with_name(f"{site.name}.node.openssh"), server / "nodes" / f"{site.name}.pub"
        )
        (here / "submitters").mkdir()
        submitter_key = self.layout.scientist / "keys" / f"{self._submitter}.pub"
        pki.trust(submitter_key, here / "submitters")
        shutil.copyfile(server / "keys" / f"{_SERVER}.pub", here / "keys" / f"{_SERVER}.pub")
        (here / "datasets.d").mkdir()
        shutil.copyfile(site.records, here / "datasets.d" / site.records.name)
        _write(here / "datasets.d" / "dataset.toml", site.dataset)
        if site.policy is not None:
            _write(here / "policy.toml", site.policy)
        _write(
            here / "site.toml",
            f"""\
            [site]
            name = "{site.name}"
            state = "state"
            socket = "{self._socket(site.name)}"
            admin_socket = "{self._sockets / f"{site.name}-admin.sock"}"
            policy = "policy.toml"
            datasets = "datasets.d"
            submitters = "submitters"
            server_key = "keys/{_SERVER}.pub"
            signing_key = "keys/{site.name}.key"
            mask_key = "keys/{site.name}{SECRET_SUFFIX}"
            peers = "peers"

            [link]
            server = "127.0.0.1:{self._public}"
            ca_certificate = "{ca}"
            certificate = "link/{site.name}.crt"
            private_key = "link/{site.name}.key"
            node_key = "keys/{node_key.name}"
            metrics = "127.0.0.1:{self._link_metrics[site.name]}"
            """,
        )

    def _pin_masks(self, site: LocalSite) -> None:
        """Hand each other site's public key for sums to the site, as their admins would."""
        peers = self.layout.site(site.name) / "peers"
        peers.mkdir()
        for other in self.sites:
            if other.name != site.name:
                public = f"{other.name}{PUBLIC_SUFFIX}"
                shutil.copyfile(self.layout.site(other.name) / "keys" / public, peers / public)


def _environment() -> dict[str, str]:
    inherited = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    # One thread a process: nine of them share this machine's cores.
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return inherited | environment() | threads


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
