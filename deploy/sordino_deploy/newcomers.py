"""The newcomer's half of an enrolment: keys made in place, a request out, an answer in.

For a site and for a person. What must stay true: keys are made once and never overwritten, a
request can be written again at any time (to renew a certificate), and an answer that names another
authority or another server than the one trusted here already is refused. A newer certificate of
the same authority is taken.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from sordino_client.config import SiteConfig
from sordino_client.link_tls import read_node_key
from sordino_client.synthesis.mask_keys import PUBLIC_SUFFIX, SECRET_SUFFIX, save_mask_keypair
from sordino_deploy.authorities import is_same_authority, renews
from sordino_deploy.enrolment import EnrolmentAnswer, EnrolmentRequest, Shown, make_request
from sordino_deploy.pki import create_node_key, create_request, load_key, sign_own_request
from sordino_protocols.certificates import read_certificate
from sordino_protocols.errors import AuthenticationError, InputError, NotFoundError
from sordino_protocols.files import read_text, replace_public, write_public
from sordino_protocols.signing import check_name, load_signer, public_line, save_keypair

UNKNOWN_SERVER = "server.invalid:9443"
"""Stands in `site.toml` until an answer says where the server is (RFC 2606: never resolves)."""

SYSTEM_DIRECTORY = Path("/etc/sordino")

_DIRECTORIES = ("datasets.d", "submitters", "approvers", "peers")


@dataclass(frozen=True, slots=True)
class PersonKeys:
    """Where a person keeps what, below one directory."""

    directory: Path
    name: str

    @property
    def signing_key(self) -> Path:
        """Ed25519; signs jobs."""
        return self.directory / "keys" / f"{self.name}.key"

    @property
    def private_key(self) -> Path:
        """Of the certificate."""
        return self.directory / "tls" / f"{self.name}.key"

    @property
    def certificate(self) -> Path:
        """There once an answer was installed."""
        return self.private_key.with_suffix(".crt")

    @property
    def authority(self) -> Path:
        """The certificate authority's certificate."""
        return self.directory / "ca.crt"


def init_site(directory: Path, name: str, *, server: str = UNKNOWN_SERVER) -> Path:
    """Make a site's keys, directories and `site.toml`.

    The vault's keys go to `keys/`, the link's to `link/`: in production two users own them.

    Returns:
        the configuration's path.

    Raises:
        InputError: the name is no site's, or a file is there already.
    """
    config = directory / "site.toml"
    check_name(name)
    if config.exists():
        raise InputError(f"{config}: exists already; this site was made before")
    save_keypair(directory / "keys", name)
    save_mask_keypair(directory / "keys", name)
    create_request(directory / "link", name)
    create_node_key(directory / "link", name)
    for each in _DIRECTORIES:
        (directory / each).mkdir(exist_ok=True)
    write_public(config, _site_toml(directory, name, server).encode())
    return config


def request_site(config: SiteConfig) -> EnrolmentRequest:
    """What a site shows to be let in, or to have its certificate renewed.

    Raises:
        NotFoundError: a key that `site.toml` names is absent.
        InputError: a key cannot be used, or the site has no TLS key.
    """
    site, link = config.site, config.link
    if link.private_key is None:
        raise InputError(f"{config.directory / 'site.toml'}: link.private_key: missing; name one")
    tls_key, node_key = load_key(link.private_key), read_node_key(link.node_key)
    node_line = node_key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    mask_public = None
    if site.mask_key is not None:
        stem = site.mask_key.name.removesuffix(SECRET_SUFFIX)
        mask_public = read_text(site.mask_key.with_name(f"{stem}{PUBLIC_SUFFIX}"))
    signer = load_signer(site.signing_key, site.name)
    shown = Shown(
        name=site.name,
        role="site",
        certificate_request=sign_own_request(tls_key, site.name).decode("ascii"),
        signing_key=public_line(signer),
        node_key=f"{node_line.decode('ascii')} {site.name}\n",
        mask_key=mask_public,
    )
    return make_request(shown, signer, certificate_key=tls_key, node_key=node_key)


def install_site(answer: EnrolmentAnswer, config: SiteConfig) -> None:
    """Put what an answer carries where `site.toml` says.

    Raises:
        InputError: the answer is another's or of another key, or the server has another name here.
        AuthenticationError: another authority or server is trusted here already.
    """
    site, link = config.site, config.link
    if answer.role != "site" or answer.name != site.name or link.certificate is None:
        raise InputError(f"the answer is for the {answer.role} {answer.name!r}, not for this site")
    if site.server_key.stem != answer.server_name:
        raise InputError(
            f"site.server_key: must be called {answer.server_name}.pub, as the server is"
        )
    trusted = {site.server_key: answer.server_key}
    _install(answer, link.certificate, authority=link.ca_certificate, trusted=trusted)
    file = config.directory / "site.toml"
    text = read_text(file)
    if f'"{UNKNOWN_SERVER}"' in text:
        replace_public(file, text.replace(UNKNOWN_SERVER, answer.server).encode())


def request_person(
    directory: Path, name: str, *, role: Literal["submitter", "operator"]
) -> EnrolmentRequest:
    """What a person shows to be let in, or for a new certificate; keys are made if absent.

    Raises:
        InputError: the name is nobody's, or a key cannot be used.
    """
    keys = PersonKeys(directory, check_name(name))
    if not keys.signing_key.exists():
        save_keypair(keys.signing_key.parent, name)
    if not keys.private_key.exists():
        create_request(keys.private_key.parent, name)
    signer, tls_key = load_signer(keys.signing_key, name), load_key(keys.private_key)
    shown = Shown(
        name=name,
        role=role,
        certificate_request=sign_own_request(tls_key, name).decode("ascii"),
        signing_key=public_line(signer),
    )
    return make_request(shown, signer, certificate_key=tls_key, node_key=None)


def install_person(answer: EnrolmentAnswer, directory: Path) -> Path:
    """Put what an answer carries beside a person's keys; returns the profile, written if absent.

    Raises:
        NotFoundError: the request was not made in this directory.
        AuthenticationError: another authority is trusted here already.
    """
    keys = PersonKeys(directory, answer.name)
    if not keys.private_key.exists():
        raise NotFoundError(f"{keys.private_key}: no such key; the request was made elsewhere")
    _install(answer, keys.certificate, authority=keys.authority, trusted={})
    profile = directory / "profile.toml"
    if not profile.exists():
        write_public(profile, _profile_toml(answer).encode())
    return profile


def _install(
    answer: EnrolmentAnswer, certificate: Path, *, authority: Path, trusted: Mapping[Path, str]
) -> None:
    """Write all of it; or nothing, if something else is trusted here already."""
    shown = x509.load_pem_x509_certificate(answer.authority.encode())
    known = read_certificate(authority) if authority.exists() else None
    if known is not None and not is_same_authority(known, shown):
        raise _another_federation(authority)
    for path, text in trusted.items():
        if path.exists() and read_text(path).split() != text.split():
            raise _another_federation(path)
    if known is None or renews(known, shown):
        replace_public(authority, answer.authority.encode())
    for path, text in trusted.items():
        if not path.exists():
            write_public(path, text.encode())
    replace_public(certificate, answer.certificate.encode())


def _another_federation(path: Path) -> AuthenticationError:
    return AuthenticationError(
        f"{path}: the answer is of another federation than the one trusted here"
    )


def _site_toml(directory: Path, name: str, server: str) -> str:
    is_system = directory == SYSTEM_DIRECTORY
    state = "/var/lib/sordino/site" if is_system else "state"
    socket = "/run/sordino/site.sock" if is_system else "state/site.sock"
    return textwrap.dedent(
        f"""\
        # What each key means: docs/configuration.md

        [site]
        name = "{name}"
        state = "{state}"
        socket = "{socket}"
        policy = "policy.toml"
        datasets = "datasets.d"
        submitters = "submitters"
        approvers = "approvers"
        server_key = "keys/server.pub"
        signing_key = "keys/{name}.key"
        mask_key = "keys/{name}{SECRET_SUFFIX}"
        peers = "peers"

        [link]
        server = "{server}"
        ca_certificate = "link/ca.crt"
        certificate = "link/{name}.crt"
        private_key = "link/{name}.key"
        node_key = "link/{name}.node.key"
        metrics = "127.0.0.1:9465"
        """
    )


def _profile_toml(answer: EnrolmentAnswer) -> str:
    return textwrap.dedent(
        f"""\
        [profile]
        name = "{answer.name}"
        gateway = "{answer.gateway}"
        ca_certificate = "ca.crt"
        certificate = "tls/{answer.name}.crt"
        private_key = "tls/{answer.name}.key"
        signing_key = "keys/{answer.name}.key"
        """
    )
