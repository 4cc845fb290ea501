"""The files of a federation's hosts, where an installation has them: `/etc/sordino`, the units."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from one_site import POLICY
from real_federation import system_job_text
from self_tested import provide_record

from sordino.heart import write_dataset
from sordino_client.config import load_config
from sordino_client.self_test_record import record_path
from sordino_deploy import pki
from sordino_deploy.approving import approve, authority_directory
from sordino_deploy.enrolment import EnrolmentAnswer, EnrolmentRequest
from sordino_deploy.newcomers import (
    init_site,
    install_person,
    install_site,
    request_person,
    request_site,
)
from sordino_deploy.server_setup import init_server
from sordino_server.config import load_config as load_server_config

SYSTEMD = Path(__file__).parents[1] / "deploy" / "systemd"
SERVER = "10.77.0.1"
"""The first host of a network."""

PREPARE_SITE = [
    ["systemd-sysusers", "/etc/sordino.sysusers.conf"],
    ["systemd-tmpfiles", "--create", "/etc/sordino-site.tmpfiles.conf"],
]
PREPARE_SERVER = [
    ["systemd-sysusers", "/etc/sordino.sysusers.conf"],
    ["systemd-tmpfiles", "--create", "/etc/sordino-server.tmpfiles.conf"],
]

_SCIENTIST = "scientist"
_AUDITS = ("sordino-audit.service", "sordino-audit.timer")
_OF_SITE = ("sordino-site-vault.service", "sordino-site-link.service")
_SYSTEM = {
    "server.toml": {'state = "state"': 'state = "/var/lib/sordino/server"'},
    "site.toml": {
        'state = "state"': 'state = "/var/lib/sordino/site"',
        'socket = "state/site.sock"': 'socket = "/run/sordino/site.sock"',
    },
}
_AUDIT = """\
[audit]
runs = "/var/lib/sordino/server/runs"
reports = "/var/lib/sordino/audit/reports"
heads = "/var/lib/sordino/audit/heads.json"
"""
_USERS = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
_GROUPS = "root:x:0:\nnogroup:x:65534:\n"
# On a machine of few cores, several vaults of one thread are faster than several of many.
_FOR_TESTS = """
[Service]
StandardOutput=append:/var/log/units/%n
StandardError=inherit
Environment=OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
"""
# What is due is done without a random delay.
_AT_ONCE = """
[Timer]
RandomizedDelaySec=0
"""


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Trees to boot hosts from.

    Attributes:
        server: of the server's host.
        sites: of the sites' hosts, by name.
        person: of the data scientist's machine.
    """

    server: Path
    sites: dict[str, Path]
    person: Path


def write_host_files(directory: Path, sites: Iterable[str], *, rounds: int) -> HostFiles:
    """Make the files of a server, of these sites and of a data scientist, as their admins would."""
    names = list(sites)
    trees = HostFiles(
        directory / "server", {each: directory / each for each in names}, directory / "person"
    )
    server = init_server(
        _start_tree(trees.server, ("sordino-server.service", *_AUDITS)), hosts=[SERVER]
    )
    _write(server.parent / "audit.toml", _AUDIT)
    person = _start_tree(trees.person, ())
    request = request_person(person, _SCIENTIST, role="submitter")
    install_person(_approved(request, server), person)
    _write(person / "job.toml", system_job_text(rounds=rounds, quorum=len(names)))
    for name, tree in trees.sites.items():
        site = init_site(_start_tree(tree, _OF_SITE), name)
        install_site(_approved(request_site(load_config(site)), server), load_config(site))
        pki.trust(person / "keys" / f"{_SCIENTIST}.pub", site.parent / "submitters")
        _write(site.parent / "policy.toml", POLICY)
        write_dataset(name, site.parent / "datasets.d")
        _provide_record(tree, site)
    for file in (
        server,
        *(tree / "etc" / "sordino" / "site.toml" for tree in trees.sites.values()),
    ):
        _move_to_system(file)
    return trees


def _approved(request: EnrolmentRequest, server: Path) -> EnrolmentAnswer:
    config = load_server_config(server)
    return approve(request, config, authority=authority_directory(config))


def _move_to_system(config: Path) -> None:
    """Name the directories that a file has which was made in `/etc/sordino`."""
    text = config.read_text()
    for line, instead in _SYSTEM[config.name].items():
        assert line in text
        text = text.replace(line, instead)
    config.write_text(text)


def _provide_record(tree: Path, config_file: Path) -> None:
    """The outcome of this code's self-test, where the host's vault looks for it."""
    scratch = tree.with_name(f"{tree.name}-tested") / "site.toml"
    scratch.parent.mkdir()
    scratch.write_text(config_file.read_text())
    config = load_config(scratch)
    provide_record(config)
    state = tree / "var" / "lib" / "sordino" / "site"
    state.mkdir(parents=True, mode=0o700)
    shutil.copyfile(record_path(config), state / record_path(config).name)


def _start_tree(tree: Path, units: Iterable[str]) -> Path:
    """A root directory with users, units and the start of `/etc/sordino`, which is returned."""
    etc = tree / "etc"
    services = etc / "systemd" / "system"
    (services / "service.d").mkdir(parents=True)
    (tree / "var" / "log" / "units").mkdir(parents=True)
    (etc / "passwd").write_text(_USERS)
    (etc / "group").write_text(_GROUPS)
    for unit in units:
        shutil.copyfile(SYSTEMD / unit, services / unit)
    (services / "service.d" / "tests.conf").write_text(_FOR_TESTS)
    (services / "timer.d").mkdir()
    (services / "timer.d" / "tests.conf").write_text(_AT_ONCE)
    for path in SYSTEMD.glob("*.conf"):
        shutil.copyfile(path, etc / path.name)
    (etc / "sordino").mkdir()
    return etc / "sordino"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
