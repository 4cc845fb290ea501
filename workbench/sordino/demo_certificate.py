"""The demo's certificate: with the auditor's signed finding, checked with the keys of everybody.

The demo plays all the people, so it has all their keys. Elsewhere the server issues, the auditor
attaches, and whoever is shown the file verifies it with keys that came another way.
"""

from dataclasses import dataclass
from pathlib import Path

from sordino.certificate_page import render
from sordino_audit.audit_document import AuditDocument
from sordino_audit.sealing import to_json
from sordino_audit.summary import read_summary
from sordino_deploy.local import Layout
from sordino_protocols.certificate import attach, read_certificate
from sordino_protocols.certificate_check import TrustedKeys, Verification, verify_certificate
from sordino_protocols.signing import TrustStore, load_public_key, load_trust, save_keypair
from sordino_server.runs import CERTIFICATE, RunDirectory
from sordino_server.storage import write_whole

_AUDITOR = "auditor"
_SERVER = "server"


@dataclass(frozen=True, slots=True)
class PublishedCertificate:
    """Where it lies, and whether it holds.

    Attributes:
        file: the certificate.
        page: its reading.
        verification: what was found.
        command: the line with which anybody checks it again.
    """

    file: Path
    page: Path
    verification: Verification
    command: str


def publish_certificate(
    layout: Layout, run: RunDirectory, audit: AuditDocument
) -> PublishedCertificate:
    """Attach the audit to a run's certificate, check it, and write file and page.

    Args:
        layout: where the federation keeps its keys; the certificate goes to its root.
        run: finished.
        audit: of that run.

    Raises:
        IntegrityError: the run's certificate cannot be read.
        InputError: there is an auditor's key already: one demo, one directory.
    """
    keys = layout.root / _AUDITOR
    auditor = save_keypair(keys, _AUDITOR)
    summary = read_summary(to_json(audit).encode(), source="the audit")
    issued = read_certificate(run.content(CERTIFICATE))
    certificate = attach(issued, summary, auditor)
    server = layout.server / "keys" / f"{_SERVER}.pub"
    trusted = TrustedKeys(
        server=TrustStore({_SERVER: load_public_key(server)}),
        sites=load_trust(layout.server / "sites"),
        submitters=load_trust(layout.server / "submitters"),
        auditors=load_trust(keys),
    )
    verification = verify_certificate(certificate, trusted)
    file, page = layout.root / "certificate.json", layout.root / "certificate.html"
    write_whole(file, certificate.canonical())
    write_whole(page, render(certificate, verification).encode())
    command = (
        f"cert verify {file} --server {server} --sites {layout.server / 'sites'}"
        f" --submitters {layout.server / 'submitters'} --auditors {keys}"
    )
    return PublishedCertificate(file, page, verification, command)
