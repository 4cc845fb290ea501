"""Who is let into a federation, and who is shut out: what `sordino pki approve|revoke` do.

A server believes whose keys lie in its directories, and lets in whose certificate its authority
signed. Both are changed here, by the operator's decision. What must stay true: a name that is
enrolled never gets another key without being revoked first, and whoever is revoked loses keys and
certificates in one go. A running server notices within seconds.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography import x509

from sordino_deploy import issued
from sordino_deploy.enrolment import EnrolmentAnswer, EnrolmentRequest, Shown
from sordino_deploy.pki import (
    AUTHORITY_DAYS,
    CERTIFICATE_DAYS,
    LOOPBACK_HOSTS,
    Role,
    certificate_hosts,
)
from sordino_protocols.certificates import read_certificate
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.files import read_text, write_public
from sordino_protocols.signing import REVOKED, check_name
from sordino_server.config import ServerConfig


def authority_directory(config: ServerConfig) -> Path:
    """Where the authority of a server is, unless its key is kept elsewhere."""
    return config.gateway.client_ca.parent


def is_enrolled(shown: Shown, config: ServerConfig) -> bool:
    """Whether all of these keys are trusted already: what is asked for is a new certificate.

    Raises:
        InputError: the name is enrolled with other keys, or a key was revoked.
    """
    files = _key_files(shown, config)
    for path, text in files.items():
        before = path.parent / REVOKED / path.name
        if before.exists() and _key(read_text(before)) == _key(text):
            raise InputError(f"the key that {shown.name!r} shows was revoked; new keys are needed")
    present = {path: read_text(path) for path in files if path.exists()}
    for path, text in present.items():
        if _key(text) != _key(files[path]):
            raise InputError(
                f"{path}: {shown.name!r} is enrolled with another key; if it lost its own:"
                f" sordino pki revoke {shown.name}, and approve then"
            )
    return bool(files) and present.keys() == files.keys()


def approve(
    request: EnrolmentRequest,
    config: ServerConfig,
    *,
    authority: Path,
    days: int = CERTIFICATE_DAYS,
) -> EnrolmentAnswer:
    """Certify whoever asks, and trust the keys shown from now on.

    Args:
        request: read by `read_request`, and its fingerprint seen by a person.
        config: the server's.
        authority: the authority's directory.
        days: how long the certificate is valid.

    Raises:
        InputError: the name is enrolled with other keys, or the authority is not the server's.
        NotFoundError: there is no authority, or a file of the server's is absent.
    """
    shown = request.shown
    is_enrolled(shown, config)
    for certificate in _authority_files(config):
        issued.publish(authority, certificate)
    pem = issued.certify(
        authority,
        shown.certificate_request.encode(),
        name=shown.name,
        role=Role(shown.role),
        days=days,
    )
    for path, text in _key_files(shown, config).items():
        if not path.exists():
            write_public(path, text.encode())
    return EnrolmentAnswer(
        name=shown.name,
        role=shown.role,
        certificate=pem.decode(),
        authority=read_text(authority / issued.CERTIFICATE),
        server_key=read_text(config.server.signing_key.with_suffix(".pub")),
        server=_advertised(config, config.server.public),
        gateway=_advertised(config, config.gateway.address),
    )


def renew_authority(
    config: ServerConfig, *, authority: Path, days: int = AUTHORITY_DAYS
) -> x509.Certificate:
    """Renew a server's authority, and have the server go by the new certificate within seconds.

    Raises:
        NotFoundError: there is no authority.
        InputError: it is not the server's, or would count for no longer than it does.
    """
    renewed = issued.renew_authority(authority, days=days)
    for certificate in _authority_files(config):
        issued.publish(authority, certificate)
    return renewed.certificate


def revoke(name: str, config: ServerConfig, *, authority: Path) -> list[str]:
    """Shut out a site or a person.

    Keys go to `revoked/` in their directory, where they prove what was signed before and let nobody
    in; certificates go on the authority's list.

    Returns:
        what was taken back, in words.

    Raises:
        NotFoundError: nobody of that name is enrolled or has a certificate that counts.
    """
    check_name(name)
    section = config.server
    done = [
        f"key {path}"
        for directory in (section.sites, section.nodes, section.submitters)
        if (path := directory / f"{name}.pub").exists() and _set_aside(path)
    ]
    try:
        taken = issued.revoke(authority, name)
    except NotFoundError:
        if not done:
            raise
        taken = []
    for certificate in _authority_files(config):
        issued.publish(authority, certificate)
    return done + [f"certificate {each.serial:x} ({each.role})" for each in taken]


def _key_files(shown: Shown, config: ServerConfig) -> Mapping[Path, str]:
    """Where the server keeps the keys of such an asker, and what is in each file."""
    section, name = config.server, f"{shown.name}.pub"
    match shown.role:
        case "site":
            # The key that is believed first: a link without one would be let in for nothing.
            return {
                section.sites / name: shown.signing_key,
                section.nodes / name: shown.node_key or "",
            }
        case "submitter":
            return {section.submitters / name: shown.signing_key}
        case "operator":
            return {}


def _key(line: str) -> list[str]:
    """Algorithm and key of a public key's line, without the name behind."""
    return line.split()[:2]


def _authority_files(config: ServerConfig) -> Iterator[Path]:
    yield config.gateway.client_ca
    if config.server.client_ca not in (None, config.gateway.client_ca):
        yield config.server.client_ca


def _set_aside(path: Path) -> Path:
    target = path.parent / REVOKED / path.name
    target.parent.mkdir(exist_ok=True)
    return path.replace(target)


def _advertised(config: ServerConfig, address: str) -> str:
    """An address as others reach it: listening says 0.0.0.0, the certificate says by what name."""
    hosts = certificate_hosts(read_certificate(config.server.certificate))
    host = next((each for each in hosts if each not in LOOPBACK_HOSTS), LOOPBACK_HOSTS[1])
    port = address.rpartition(":")[2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
