"""A federation of real processes for benchmarks: the four hospitals, started and stopped."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sordino.connection import Connection
from sordino.demo_data import hospitals
from sordino.profile import load_profile
from sordino_deploy.local import LocalFederation, LocalSite
from sordino_deploy.processes import Child, Supervisor


@dataclass(frozen=True, slots=True)
class RunningFederation:
    """A federation that is ready.

    Attributes:
        federation: its files.
        children: its processes, by name.
        connection: the data scientist's.
    """

    federation: LocalFederation
    children: dict[str, Child]
    connection: Connection


@contextmanager
def running_federation(
    changed: Callable[[LocalSite], LocalSite] = lambda site: site,
) -> Iterator[RunningFederation]:
    """Four hospitals and a server, as processes on this machine, for the length of the block.

    Args:
        changed: makes each hospital another one, say with another policy.
    """
    with tempfile.TemporaryDirectory() as scratch, Supervisor() as supervisor:
        data = hospitals(Path(scratch) / "data")
        sites = [changed(site) for site in data.sites]
        with closing(LocalFederation(Path(scratch) / "federation", sites)) as federation:
            federation.prepare()
            children = federation.start(supervisor)
            federation.wait_ready(supervisor, children)
            with Connection(load_profile(federation.submitter_profile)) as connection:
                yield RunningFederation(federation, children, connection)


def resident_megabytes(child: Child) -> float:
    """Memory that a process holds now, from the kernel (VmRSS)."""
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def maps_library(child: Child, name: str) -> bool:
    """Whether a process has a library of this name in its memory."""
    return name in Path(f"/proc/{child.pid}/maps").read_text(encoding="utf-8")
