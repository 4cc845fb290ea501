"""The three guides as one story: from nothing to a federation that ran, was audited and kept safe.

Every command and file of docs/operator.md, docs/site-admin.md and docs/auditor.md is run and
written in the order of their steps, in real processes; what the guides say is printed must be
printed.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path

import pytest
from guides import Host, perform, story

from sordino import heart
from sordino_deploy.processes import free_ports
from sordino_protocols.flower_environment import environment

pytestmark = pytest.mark.system

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = [DOCS / f"{name}.md" for name in ("operator", "site-admin", "auditor")]
PASSED_ON = ("LANG", "TMPDIR", "LD_LIBRARY_PATH")


@pytest.fixture
def root() -> Iterator[Path]:
    """Where the hosts are: below a short name, for the sake of Unix sockets."""
    directory = Path(tempfile.mkdtemp(prefix="guide-"))
    yield directory
    shutil.rmtree(directory)


@contextmanager
def hosts(root: Path) -> Iterator[dict[str, Host]]:
    """The hosts of the story; what was started on them is ended."""
    public, gateway, metrics, link = free_ports(4)
    ports = {"9443": str(public), "9444": str(gateway), "9464": str(metrics), "9465": str(link)}
    server = {
        "SORDINO_SERVER": str(root / "server/etc/server.toml"),
        "SORDINO_SERVER__SERVER__PUBLIC": f"127.0.0.1:{public}",
        "SORDINO_SERVER__GATEWAY__ADDRESS": f"127.0.0.1:{gateway}",
        "SORDINO_SERVER__METRICS__ADDRESS": f"127.0.0.1:{metrics}",
    }
    auditor = {"SORDINO_AUDIT": str(root / "server/etc/audit.toml")}
    site = {
        "SORDINO_SITE": str(root / "site/etc/site.toml"),
        "SORDINO_SITE__LINK__METRICS": f"127.0.0.1:{link}",
    }
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Host(name, places(root, where) | ports, variables))
            for name, where, variables in (
                ("server", "server", shared(root, "server") | server),
                ("auditor", "server", shared(root, "server") | auditor),
                ("site", "site", shared(root, "site") | site),
                ("ada", "ada", shared(root, "ada")),
            )
        }


def places(root: Path, host: str) -> dict[str, str]:
    """Where the guides' paths are; each is made."""
    here = root / host
    found = {
        "/etc/sordino": here / "etc",
        f"/var/lib/sordino/{host}": here / "etc/state",
        "/var/lib/sordino/audit": here / "audit",
        "/var/log/sordino": here / "log",
        "/srv": here / "srv",
        "/home/ada": here / "home",
        "/media/stick": root / "stick",
    }
    for name, path in found.items():
        if name != f"/var/lib/sordino/{host}":  # a daemon makes its own
            path.mkdir(parents=True, exist_ok=True)
    return {name: str(path) for name, path in found.items()} | {"sordino.example.org": "localhost"}


def shared(root: Path, host: str) -> dict[str, str]:
    """The environment of a person on a host."""
    inherited = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    home = {"HOME": str(root / host / "home"), "PATH": path}
    return inherited | environment() | threads | home


def test_the_guides_lead_from_nothing_to_an_audited_run(root: Path) -> None:
    with hosts(root) as there:
        records = Path(there["site"].placed("/srv/heart.csv"))
        records.write_text((files(heart) / "cleveland.csv").read_text())
        perform(story(GUIDES), there)
        said = "".join("".join(host.transcript) for host in there.values())
        assert "Traceback" not in said
