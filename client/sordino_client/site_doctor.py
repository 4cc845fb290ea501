"""What keeps a site from working, and what to do about it: the site's part of `sordino doctor`.

For a person at the site, as the user of the vault or as root. Nothing is changed, nothing is sent
but a greeting to the server, and no record is read: of a data set the declaration is, and whether
its files are there.
"""

import json
import os
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sordino_client.chain import Walk
from sordino_client.chain_store import read_rows
from sordino_client.config import SiteConfig, load_config
from sordino_client.data.declaration import DatasetFile, read_dataset
from sordino_client.data.sources import FileSource
from sordino_client.ledger_location import ledger_location
from sordino_client.policy import load_policy
from sordino_client.policy_summary import site_remarks
from sordino_client.self_test_record import require_self_test
from sordino_client.vault_client import VaultClient
from sordino_protocols.diagnosis import (
    Diagnosis,
    DoubtError,
    diagnose_readiness,
    examine,
    look_at_certificate,
    look_at_secret,
    look_at_server,
    look_at_socket,
    look_at_state,
    readiness_at,
)
from sordino_protocols.errors import InputError, NotFoundError, SordinoError, UnreachableError
from sordino_protocols.signing import load_public_key, load_signer, load_trust


def diagnose_site(path: Path) -> Iterator[Diagnosis]:
    """Every check of a site, from its files to its server; one that is broken stops no other.

    Args:
        path: its `site.toml`. If that cannot be read, nothing else is checked.
    """
    try:
        config = load_config(path)
    except SordinoError as error:
        yield Diagnosis("configuration", "problem", str(error), "mend the file named here")
        return
    yield Diagnosis("configuration", "ok", f"{path}: site {config.site.name}")
    yield from _identity(config)
    yield from _place(config, path)
    yield from _rules(config, path)
    yield from _data(config)
    yield from _processes(config, path)
    yield from _network(config)


def _identity(config: SiteConfig) -> Iterator[Diagnosis]:
    site, again = config.site, "enrol the site again: sordino site enroll"

    def signing_key() -> str:
        return f"{site.signing_key}: speaks for {load_signer(site.signing_key, site.name).name}"

    def server_key() -> str:
        load_public_key(site.server_key)
        return f"{site.server_key}: messages of {site.server_key.stem} are believed"

    yield examine("signing key", signing_key, fix=again)
    yield examine("server's key", server_key, fix=again)
    yield examine("node key", lambda: look_at_secret(config.link.node_key), fix=again)
    if (mask_key := site.mask_key) is not None:
        fix = "make it: sordino site mask-key"
        yield examine("mask key", lambda: look_at_secret(mask_key), fix=fix)
    authority = config.link.ca_certificate
    yield examine("authority", lambda: look_at_certificate(authority), fix=again)
    if (certificate := config.link.certificate) is not None:
        yield examine("certificate", lambda: look_at_certificate(certificate), fix=again)


def _place(config: SiteConfig, path: Path) -> Iterator[Diagnosis]:
    site = config.site
    fix = f"chown it to the vault's user, chmod 700, or make room: {site.state}"
    yield examine("state", lambda: look_at_state(site.state), fix=fix)
    fix = "let the vault's user own its directory, or name a shorter one in site.socket"
    yield examine("socket", lambda: look_at_socket(site.socket), fix=fix)

    def ledger() -> str:
        location, walk = ledger_location(config), Walk()
        if isinstance(location, Path) and not location.exists():
            return f"{location}: not there yet; the vault makes it"
        entries = sum(1 for _ in walk.verified(read_rows(location)))
        return f"the chain of {entries} entries holds"

    yield examine("ledger", ledger, fix=f"sordino ledger verify --config {path}")


def _rules(config: SiteConfig, path: Path) -> Iterator[Diagnosis]:
    site = config.site

    def policy() -> str:
        found = load_policy(site.policy)
        if found is None:
            raise DoubtError(f"{site.policy}: no such file, so everything is refused")
        if remarks := site_remarks(found, config):
            raise DoubtError("; ".join(remarks))
        return f"{site.policy}: sha256 {found.sha256[:12]}"

    def submitters() -> str:
        names = sorted(load_trust(site.submitters).keys)
        if not names:
            raise DoubtError(f"{site.submitters}: no public key, so nobody's jobs count")
        return f"jobs of {', '.join(names)} count"

    def tested() -> str:
        require_self_test(config)
        return "what is installed passed it"

    yield examine("policy", policy, fix=f"sordino policy check --config {path}")
    yield examine("submitters", submitters, fix=f"put their NAME.pub into {site.submitters}")
    yield examine("self-test", tested, fix=f"sordino audit self-test --site {path}")


def _data(config: SiteConfig) -> Iterator[Diagnosis]:
    directory = config.site.datasets
    declarations = sorted(directory.glob("*.toml"))
    if not declarations:
        detail = f"{directory}: declares no data set"
        yield Diagnosis("data sets", "warning", detail, "sordino dataset suggest")
    for each in declarations:
        fix = f"mend {each}, or let the vault's user read what it names"
        yield examine(f"data set {each.stem}", partial(_look_at_dataset, each), fix=fix)


def _look_at_dataset(path: Path) -> str:
    declared = read_dataset(path)
    for each in _files(declared):
        if not os.access(each, os.R_OK):
            raise InputError(f"{each}: cannot be read by this user")
    return f"{declared.dataset.name} v{declared.dataset.version}"


def _files(declared: DatasetFile) -> list[Path]:
    """The files with the records; none where they lie in a database or an object store."""
    source = declared.source
    if not isinstance(source, FileSource) or source.path is None:
        return []
    found = sorted(source.path.parent.glob(source.path.name))
    if not found:
        raise NotFoundError(f"{source.path}: no such file")
    return found


def _processes(config: SiteConfig, path: Path) -> Iterator[Diagnosis]:
    start = f"start it: sordino site run --config {path}"

    def vault() -> str:
        if not config.site.socket.exists():
            raise UnreachableError(f"{config.site.socket}: no such socket: no vault runs")
        with VaultClient(config.site.socket) as client:
            text = client.status()
        if text is None:
            raise UnreachableError(f"{config.site.socket}: no vault answers")
        status: object = json.loads(text)
        if isinstance(status, dict) and status.get("network_cut_off") is False:
            raise DoubtError("it runs, and is not cut off from the network: the kernel refused")
        return "it answers, and is cut off from the network"

    yield examine("vault", vault, fix=start)
    if (address := config.link.metrics) is None:
        return
    checks = readiness_at(address)
    if checks is None:
        yield Diagnosis("link", "problem", f"{address}: no link answers", start)
        return
    yield Diagnosis("link", "ok", f"it answers at {address}")
    yield from diagnose_readiness(checks, fix="see the link's log")


def _network(config: SiteConfig) -> Iterator[Diagnosis]:
    link = config.link

    def server() -> str:
        try:
            context = ssl.create_default_context(cafile=link.ca_certificate)
            if link.certificate is not None:
                context.load_cert_chain(link.certificate, link.private_key)
        except (OSError, ssl.SSLError):
            files = link.ca_certificate if link.certificate is None else link.certificate
            raise InputError(f"{files}: no certificate to greet the server with") from None
        return look_at_server(link.server, context)

    fix = "name the server in link.server; ask its operator, or your firewall's, for the way"
    yield examine("server", server, fix=fix)
