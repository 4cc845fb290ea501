"""What keeps an auditor or a data scientist from working: their part of `sordino doctor`."""

from collections.abc import Iterator
from pathlib import Path

from sordino.connection import Connection
from sordino.profile import Profile, load_profile
from sordino_audit.audit_config import load_config
from sordino_protocols.diagnosis import (
    Diagnosis,
    DoubtError,
    examine,
    look_at_certificate,
    look_at_pair,
    look_at_secret,
)
from sordino_protocols.errors import InputError, SordinoError
from sordino_protocols.signing import load_signer


def diagnose_audit(path: Path) -> Iterator[Diagnosis]:
    """Every check of an auditor's configuration."""
    try:
        config = load_config(path)
    except SordinoError as error:
        yield Diagnosis("configuration", "problem", str(error), "mend the file named here")
        return
    yield Diagnosis("configuration", "ok", str(path))

    def runs() -> str:
        if config.runs is None:
            raise DoubtError(
                "audit.runs is not set: sordino audit run --new needs to be told where"
            )
        if not config.runs.is_dir():
            raise InputError(f"{config.runs}: no such directory")
        return str(config.runs)

    def reports() -> str:
        series = config.series
        if series is None:
            raise DoubtError("audit.reports is not set, so no report is kept")
        if next(series.reports(), None) is None:
            return f"{config.reports}: no report yet"
        return f"{config.reports}: a chain of {series.verify()} reports holds"

    yield examine("runs", runs, fix="name the server's runs in audit.runs")
    yield examine("reports", reports, fix="sordino audit verify DIRECTORY")


def diagnose_profile(path: Path) -> Iterator[Diagnosis]:
    """Every check of a data scientist's profile, up to the server's answer."""
    try:
        profile = load_profile(path)
    except SordinoError as error:
        yield Diagnosis("configuration", "problem", str(error), "mend the file named here")
        return
    yield Diagnosis("configuration", "ok", f"{path}: {profile.name}")
    ask = "ask the server's operator for a certificate"
    yield examine("certificate", lambda: look_at_certificate(profile.certificate), fix=ask)
    yield examine("private key", lambda: _pair(profile), fix=ask)
    yield examine("signing key", lambda: _signing_key(profile), fix="restore it from a backup")
    fix = "ask the operator whether the server runs, and whether your certificate is revoked"
    yield examine("server", lambda: _server(profile), fix=fix)


def _pair(profile: Profile) -> str:
    look_at_secret(profile.private_key)
    return look_at_pair(profile.certificate, profile.private_key)


def _signing_key(profile: Profile) -> str:
    return f"{profile.signing_key}: {load_signer(profile.signing_key, profile.name).name}"


def _server(profile: Profile) -> str:
    with Connection(profile) as connection:
        sites = connection.sites()
    there = sum(sites.values())
    return f"{profile.gateway}: {there} of {len(sites)} sites are connected"
