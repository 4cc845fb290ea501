"""A server's host in a directory, for tests: keys, certificates, configuration, and a SuperLink.

The SuperLink is real and keeps its database, but serves nobody: a run that is started stays
pending until the test ends it, as a server app would.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sordino_deploy.local import LocalFederation, LocalSite
from sordino_server.config import ServerConfig, load_config
from sordino_server.runs import Runs
from sordino_server.superlink import SuperLink, SuperLinkSettings


@dataclass(frozen=True, slots=True)
class Host:
    """What a server daemon would find.

    Attributes:
        directory: the federation's directory; the server's host is `server` in it.
        config: the server's configuration.
        profile: a data scientist's profile for this server.
        superlink: on the host's database.
        runs: the host's runs.
    """

    directory: Path
    config: ServerConfig
    profile: Path
    superlink: SuperLink
    runs: Runs


def make_federation(directory: Path, sites: Sequence[str]) -> LocalFederation:
    """Keys, certificates and configuration of a whole federation; nothing is started."""
    directory.mkdir(parents=True, exist_ok=True)
    records = directory.parent / "records.csv"
    records.write_text("")
    local = [LocalSite(name, dataset="", records=records, policy=None) for name in sites]
    federation = LocalFederation(directory, local)
    federation.prepare()
    return federation


@contextmanager
def server_host(directory: Path, sites: Sequence[str] = ("a", "b")) -> Iterator[Host]:
    """A host whose SuperLink is open."""
    federation = make_federation(directory, sites)
    config = load_config(directory / "server" / "server.toml")
    superlink = open_superlink(config)
    try:
        yield Host(
            directory,
            config,
            federation.submitter_profile,
            superlink,
            Runs(config.runs_directory),
        )
    finally:
        close_superlink(superlink)
        federation.close()


def open_superlink(config: ServerConfig) -> SuperLink:
    """A SuperLink that has its database and sockets, and serves nobody."""
    return SuperLink(
        SuperLinkSettings(
            directory=config.server.state / "superlink",
            public_address="127.0.0.1:0",
            certificate=config.server.certificate,
            private_key=config.server.private_key,
        )
    )


def close_superlink(superlink: SuperLink) -> None:
    """Let go of its sockets; it has no thread or process to stop."""
    superlink._listeners.stop()
