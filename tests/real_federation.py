"""A federation of real processes on this machine, for system tests: hospitals with few rounds."""

import http.client
import os
import signal
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from one_site import POLICY
from self_tested import provide_record
from small_job import job_text, read_file

from sordino.connection import Connection
from sordino.heart import write_dataset
from sordino.profile import load_profile
from sordino_deploy.local import LocalFederation, LocalSite
from sordino_deploy.processes import Child, Supervisor
from sordino_protocols.job import Job
from sordino_protocols.pricing import resolve
from sordino_server.config import ServerConfig, load_config

_LONG = 120.0


@dataclass(frozen=True, slots=True)
class Running:
    """Everything a test of a running federation needs."""

    federation: LocalFederation
    supervisor: Supervisor
    children: dict[str, Child]
    connection: Connection

    @property
    def names(self) -> list[str]:
        """The sites."""
        return [site.name for site in self.federation.sites]

    @property
    def server_config(self) -> ServerConfig:
        """The server's configuration, as it read it."""
        return load_config(self.federation.layout.server / "server.toml")

    def kill(self, name: str) -> None:
        """End a process and its group at once, as a power cut does."""
        child = self.children.pop(name)
        os.killpg(child.pid, signal.SIGKILL)
        self.supervisor.wait_ended(child, timeout_seconds=_LONG)


def system_job_text(*, rounds: int, quorum: int, epsilon: int = 4) -> str:
    """The job file of the system tests."""
    sections = f"[audit]\nlanes = 50\n[cohort]\nquorum = {quorum}\ndeadline_seconds = 150"
    return job_text(sections, name="heart", epsilon=epsilon, rounds=rounds)


def make_job(*, rounds: int, quorum: int) -> Job:
    """The job of the system tests."""
    return resolve(read_file(system_job_text(rounds=rounds, quorum=quorum)))


def hospitals(directory: Path, names: Sequence[str]) -> list[LocalSite]:
    """Sites with the records of hospitals."""
    sites = []
    for name in names:
        here = directory / name
        here.mkdir(parents=True)
        declaration = write_dataset(name, here)
        sites.append(LocalSite(name, declaration.read_text(), here / f"{name}.csv", POLICY))
    return sites


@contextmanager
def run_federation(
    directory: Path,
    names: Sequence[str],
    *,
    prepared: Callable[[LocalFederation], None] = lambda _: None,
) -> Iterator[Running]:
    """Start processes for these hospitals, and wait until every link is connected."""
    with run_sites(directory, hospitals(directory / "data", names), prepared=prepared) as running:
        yield running


@contextmanager
def run_sites(
    directory: Path,
    sites: Sequence[LocalSite],
    *,
    prepared: Callable[[LocalFederation], None] = lambda _: None,
) -> Iterator[Running]:
    """Start processes for these sites, and wait until every link is connected."""
    federation = LocalFederation(directory / "f", list(sites))
    try:
        federation.prepare()
        for site in sites:
            provide_record(federation.layout.site_config(site.name))
        prepared(federation)
        with Supervisor() as supervisor:
            children = federation.start(supervisor)
            federation.wait_ready(supervisor, children)
            with Connection(load_profile(federation.submitter_profile)) as connection:
                until(lambda: all(connection.sites().values()))
                yield Running(federation, supervisor, children, connection)
    finally:
        federation.close()


def until(condition: Callable[[], bool], seconds: float = _LONG) -> None:
    """Wait for something that another process does."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        threading.Event().wait(0.1)


def get(address: str, path: str) -> str:
    """A page of a process on this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}{path}", timeout=30) as response:
        text: str = response.read().decode()
        return text


def ask_public(running: Running, method: str, path: str) -> int:
    """The status that somebody with a site's certificate gets at the listener for sites."""
    config = running.server_config
    link = running.federation.layout.site_config(running.names[0]).link
    context = ssl.create_default_context(cafile=link.ca_certificate)
    if link.certificate is not None:
        context.load_cert_chain(link.certificate, link.private_key)
    host, _, port = config.server.public.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    try:
        connection.request(method, path, body=b"" if method == "POST" else None)
        return connection.getresponse().status
    finally:
        connection.close()


def descendants(pid: int) -> set[int]:
    """A process and everything it started that is still there."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found
