"""What keeps a server from working, and what to do about it: its part of `sordino doctor`.

For a person on the server's host, as its user or as root. Nothing is changed.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sordino_protocols.diagnosis import (
    Diagnosis,
    DoubtError,
    diagnose_readiness,
    examine,
    look_at_certificate,
    look_at_pair,
    look_at_port,
    look_at_secret,
    look_at_state,
    readiness_at,
)
from sordino_protocols.errors import SordinoError
from sordino_protocols.signing import load_signer, load_trust
from sordino_server.config import ServerConfig, load_config
from sordino_server.ports import read_ports
from sordino_server.registry import enrolled_sites


def diagnose_server(path: Path) -> Iterator[Diagnosis]:
    """Every check of a server; one that is broken stops no other.

    Args:
        path: its `server.toml`. If that cannot be read, nothing else is checked.
    """
    try:
        config = load_config(path)
    except SordinoError as error:
        yield Diagnosis("configuration", "problem", str(error), "mend the file named here")
        return
    yield Diagnosis("configuration", "ok", f"{path}: server {config.server.name}")
    yield from _identity(config)
    yield from _people(config)
    section = config.server
    fix = f"chown it to the server's user, chmod 700, or make room: {section.state}"
    yield examine("state", lambda: look_at_state(section.state), fix=fix)
    yield from _process(config, path)


def _identity(config: ServerConfig) -> Iterator[Diagnosis]:
    section = config.server
    renew = "renew it: sordino pki renew"

    def signing_key() -> str:
        return f"{section.signing_key}: {load_signer(section.signing_key, section.name).name}"

    def pair() -> str:
        look_at_secret(section.private_key)
        return look_at_pair(section.certificate, section.private_key)

    yield examine("certificate", lambda: look_at_certificate(section.certificate), fix=renew)
    yield examine("private key", pair, fix=f"chmod 600 {section.private_key}, or renew both")
    yield examine("signing key", signing_key, fix="put back the key that the sites have a .pub of")
    authority = config.gateway.client_ca
    fix = "name the authority's certificate in gateway.client_ca"
    yield examine("people's authority", lambda: look_at_certificate(authority), fix=fix)


def _people(config: ServerConfig) -> Iterator[Diagnosis]:
    section = config.server

    def sites() -> str:
        names = [each.name for each in enrolled_sites(section.sites, section.nodes)]
        if not names:
            raise DoubtError("no site is enrolled, so no job can run")
        return f"enrolled: {', '.join(names)}"

    def submitters() -> str:
        names = sorted(load_trust(section.submitters).keys)
        if not names:
            raise DoubtError(f"{section.submitters}: no public key, so nobody can submit a job")
        return f"jobs of {', '.join(names)} are taken"

    yield examine("sites", sites, fix="enrol sites: sordino pki approve")
    yield examine("submitters", submitters, fix=f"put their NAME.pub into {section.submitters}")


def _process(config: ServerConfig, path: Path) -> Iterator[Diagnosis]:
    metrics = None if config.metrics is None else config.metrics.address
    checks = None if metrics is None else readiness_at(metrics)
    start = f"start it: sordino server run --config {path}"
    if checks is not None:
        yield Diagnosis("daemon", "ok", f"it answers at {metrics}")
        yield from diagnose_readiness(checks, fix="see the server's log")
        return
    if metrics is None and read_ports(config.server.state) is not None:
        yield Diagnosis("daemon", "ok", "it serves; without [metrics], no more can be asked")
        return
    yield Diagnosis("daemon", "problem", "it does not answer", start)
    wanted = {"public": config.server.public, "gateway": config.gateway.address}
    wanted |= {} if metrics is None else {"metrics": metrics}
    for name, address in wanted.items():
        fix = f"end what listens at {address}, or choose another port"
        yield examine(f"{name} address", partial(look_at_port, address), fix=fix)
