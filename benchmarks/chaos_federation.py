"""A federation of real processes in which any one can be killed, and a keeper that restarts it.

Every link is tapped (`chaos_tap`), so that everything that leaves a site is known afterwards.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from benchmarks.chaos_tap import Tap, tapped
from sordino.connection import Connection
from sordino.demo_data import hospitals
from sordino.profile import load_profile
from sordino_deploy.keeper import Keeper, Pauses
from sordino_deploy.local import LocalFederation
from sordino_deploy.processes import Child, Supervisor
from sordino_protocols.schema import Schema
from sordino_server.runs import RunDirectory, Runs

_LINK_CONFIG = "link.toml"
_LOOK_SECONDS = 0.02
_LONG_SECONDS = 600.0
_PAUSES = Pauses(first_seconds=0.5, longest_seconds=2.0, good_seconds=5.0)


class NeverError(Exception):
    """Something that had to happen did not; the text says what."""


class Victim(StrEnum):
    """What is killed."""

    SERVER = "server"
    """The server's daemon, which holds the SuperLink."""
    SUPEREXEC = "superexec"
    SERVER_APP = "server app"
    LINK = "link"
    VAULT = "vault"
    SERVER_HOST = "server host"
    """The daemon and all that it started: a reboot of its machine."""
    SITE_HOST = "site host"
    """A site's link and vault at once."""
    EVERYTHING = "everything"


_COMMANDS = {
    Victim.SUPEREXEC: "sordino_server.superexec_process",
    Victim.SERVER_APP: "flwr-serverapp",
}


@dataclass(frozen=True, slots=True)
class ChaosFederation:
    """A running federation.

    Attributes:
        federation: its files.
        keeper: what starts its processes again.
        connection: the data scientist's.
        schema: what a record is at every site.
        taps: of each site's link.
        rng: chooses whom of several equals to kill.
    """

    federation: LocalFederation
    keeper: Keeper
    connection: Connection
    schema: Schema
    taps: Mapping[str, Tap]
    rng: random.Random

    @property
    def sites(self) -> list[str]:
        """Their names."""
        return [site.name for site in self.federation.sites]

    def run(self, run_id: str) -> RunDirectory:
        """A run as it lies on the server's disk, whether the server is up or not."""
        return Runs(self.federation.layout.server / "state" / "runs").get(run_id)

    def pump(self, condition: Callable[[], bool], *, waiting_for: str) -> None:
        """Wait for something, while the keeper restarts what ended.

        Raises:
            NeverError: it did not happen within ten minutes.
        """
        give_up_at = time.monotonic() + _LONG_SECONDS
        while not condition():
            if time.monotonic() > give_up_at:
                raise NeverError(f"waited in vain for {waiting_for}")
            self.keeper.look()
            time.sleep(_LOOK_SECONDS)

    def kill(self, victim: Victim) -> None:
        """Kill (SIGKILL) what is named, as soon as it is there."""
        self.pump(lambda: bool(self._processes(victim)), waiting_for=f"a {victim} to kill")
        for pid in self._processes(victim):
            _kill(pid)

    def _processes(self, victim: Victim) -> list[int]:
        server = self.keeper.child("server").pid
        site = self.rng.choice(self.sites)
        link, vault = (self.keeper.child(f"{site}-{role}").pid for role in ("link", "vault"))
        match victim:
            case Victim.SERVER:
                return [server]
            case Victim.SUPEREXEC | Victim.SERVER_APP:
                return [pid for pid in _below(server) if _runs(pid, _COMMANDS[victim])]
            case Victim.LINK:
                return [link]
            case Victim.VAULT:
                return [vault]
            case Victim.SERVER_HOST:
                return [server, *_below(server)]
            case Victim.SITE_HOST:
                return [link, vault]
            case Victim.EVERYTHING:
                roles = [f"{name}-{role}" for name in self.sites for role in ("link", "vault")]
                return [server, *_below(server), *(self.keeper.child(each).pid for each in roles)]


@contextmanager
def chaos_federation(
    directory: Path,
    sites: Sequence[str],
    *,
    policy: str,
    rng: random.Random,
    prepared: Callable[[LocalFederation], None] = lambda _: None,
) -> Iterator[ChaosFederation]:
    """Hospitals and a server, ready for a job.

    Args:
        directory: of everything; must be empty or absent.
        sites: which of the demo's hospitals.
        policy: text of every site's.
        rng: chooses whom of several equals to kill.
        prepared: called when the files are there, and nothing runs yet.
    """
    with ExitStack() as stack:
        data = hospitals(directory / "data")
        chosen = [replace(site, policy=policy) for site in data.sites if site.name in sites]
        federation = stack.enter_context(closing(LocalFederation(directory / "f", chosen)))
        federation.prepare()
        prepared(federation)
        taps = {site: stack.enter_context(_tap(federation, site)) for site in sites}
        supervisor = stack.enter_context(Supervisor())
        keeper = Keeper(supervisor, pauses=_PAUSES)
        children = federation.start(supervisor)
        federation.wait_ready(supervisor, children)
        federation.keep(keeper, supervisor, children)
        for site in sites:
            _send_link_to_tap(federation, keeper, supervisor, site)
        profile = load_profile(federation.submitter_profile)
        connection = stack.enter_context(Connection(profile))
        running = ChaosFederation(federation, keeper, connection, data.schema, taps, rng)
        running.pump(lambda: all(connection.sites().values()), waiting_for="the sites")
        yield running


def _tap(federation: LocalFederation, site: str) -> AbstractContextManager[Tap]:
    """A tap between a site's link and vault, and the configuration that sends the link to it."""
    here = federation.layout.site(site)
    socket = federation.layout.site_config(site).site.socket
    tap_socket = socket.with_name(f"{site}-tap.sock")
    text = (here / "site.toml").read_text(encoding="utf-8")
    (here / _LINK_CONFIG).write_text(text.replace(str(socket), str(tap_socket)), encoding="utf-8")
    return tapped(tap_socket, socket)


def _send_link_to_tap(
    federation: LocalFederation, keeper: Keeper, supervisor: Supervisor, site: str
) -> None:
    start: Callable[[], Child] = partial(
        federation.start_link, supervisor, site, config_name=_LINK_CONFIG
    )
    supervisor.stop(keeper.child(f"{site}-link"))
    keeper.keep(start(), start)


def _below(pid: int) -> list[int]:
    """Everything that a process started and that is still there, and so on."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def _runs(pid: int, command: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(Path(word).name == command for word in words)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # ended with what it belonged to, a moment ago
