"""A server's status page for tests: real runs on a grid in memory, the page on a real socket."""

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from federation import Federation

from sordino_protocols.health import Checks, Finding
from sordino_protocols.rounds import RunEvent
from sordino_server.contradictions import ContradictionReader
from sordino_server.page_reader import PageReader, Sources
from sordino_server.plain_http import serve_http
from sordino_server.quarantine import artifact, quarantine_run
from sordino_server.runs import CERTIFICATE, RunDirectory
from sordino_server.state_location import HEADS
from sordino_server.status_page import StatusPage
from sordino_server.storage import DirectoryStorage
from sordino_server.superlink import RegisteredNode

NOW = dt.datetime.now(dt.UTC)
SITES = ("berlin", "lyon", "porto")


@dataclass
class WatchedServer:
    """What the page is read from; a test changes it and looks again.

    Attributes:
        federation: real sites, real runs.
        directory: the server's state.
        nodes: the sites as a SuperLink would know them.
        is_ready: what the one readiness check says.
        certificate_ends: when the server's does.
        address: of the page, once it is served.
    """

    federation: Federation
    directory: Path
    nodes: list[RegisteredNode] = field(default_factory=list)
    is_ready: bool = True
    certificate_ends: dt.datetime = NOW + dt.timedelta(days=365)
    address: str = ""

    def reader(self) -> PageReader:
        """Reads the page's facts."""
        heads = DirectoryStorage(self.directory).within(HEADS)
        sources = Sources(
            nodes=lambda: self.nodes,
            contradictions=ContradictionReader(heads, self.directory / "audit.log").read,
            evaluate=self.checks().evaluate,
            certificate_ends=lambda: self.certificate_ends,
            now=lambda: NOW,
        )
        return PageReader("server", self.federation.runs, sources)

    def checks(self) -> Checks:
        """One readiness check, of the disk."""
        return Checks({"state_writable": lambda: Finding(self.is_ready, "the disk has room")})

    def finished(self) -> RunDirectory:
        """A run from admission to certificate."""
        run = self.federation.submit()
        self.federation.coordinator(run).execute()
        return run

    def started(self, *, rounds: int = 1) -> RunDirectory:
        """A run that is under way and has done some rounds."""
        run = self.federation.submit()
        run.advance(RunEvent.STARTED, cohort=sorted(SITES))
        run.advance(RunEvent.ADMITTED)
        for number in range(1, rounds + 1):
            self.round(run, number)
        return run

    def round(self, run: RunDirectory, number: int) -> None:
        """One more round of a run that is under way, of which one site was too late."""
        run.record(
            "round",
            round=number,
            rounds=run.job().plan.rounds,
            participants=["berlin", "lyon"],
            rejections={"porto": "late"},
            refusals={},
            epsilon_spent=0.25 * number,
            seconds=1.25,
        )


def node(name: str, *, is_online: bool = True) -> RegisteredNode:
    """A site as the SuperLink knows it."""
    seen = NOW - dt.timedelta(seconds=4 if is_online else 600)
    return RegisteredNode(name, len(name), is_online, seen.isoformat(), seen)


def audited(run: RunDirectory, *, verdict: str, lower: float | None) -> None:
    """Lay an audit's document beside a run, and withhold its model if that broke a promise."""
    document = {
        "schema_version": 3,
        "issued_at": "2026-11-22T16:00:00Z",
        "verdict": verdict,
        "claimed": 4.0,
        "bounds": [
            {"name": "lanes", "standing": "bound", "assumption": "none", "epsilon_low": lower},
            {"name": "guess", "standing": "estimate", "assumption": "none", "epsilon_low": 99.0},
        ],
        "e_values": [],
        "provenance": {"seconds": 2.5},
    }
    (run.path / "audit.json").write_text(json.dumps(document))
    if verdict == "violation":
        quarantine_run(run, reason="the lanes show more than was claimed", audit_hash="ab" * 32)


@contextmanager
def watched_server(directory: Path) -> Iterator[WatchedServer]:
    """A page on loopback, of a server with three sites and no run."""
    watched = WatchedServer(Federation(directory, SITES), directory, [node(each) for each in SITES])
    runs = watched.federation.runs
    page = StatusPage(
        watched.reader(), certificate=lambda run_id: artifact(runs.get(run_id), CERTIFICATE)
    )
    served = serve_http(page.app, "127.0.0.1:0", key="page.address")
    watched.address = f"127.0.0.1:{served.port}"
    try:
        yield watched
    finally:
        page.close()
        served.stop()
        watched.federation.close()
