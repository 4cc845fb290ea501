"""An authority is renewed under its name and key: nothing that it signed has to change."""

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from handshakes import shake_hands

from sordino_client.config import SiteConfig
from sordino_client.config import load_config as load_site
from sordino_client.link_tls import LinkTls
from sordino_deploy import issued, pki
from sordino_deploy.approving import approve, renew_authority, revoke
from sordino_deploy.authorities import is_same_authority, renews
from sordino_deploy.newcomers import (
    PersonKeys,
    init_site,
    install_person,
    install_site,
    request_person,
    request_site,
)
from sordino_deploy.server_setup import init_server
from sordino_protocols.certificates import not_after, read_certificate
from sordino_protocols.errors import AuthenticationError, InputError
from sordino_protocols.files import replace_public
from sordino_protocols.revocations import list_path, revoked_serials
from sordino_server.config import ServerConfig
from sordino_server.config import load_config as load_server
from sordino_server.tls import TlsFiles, listen_with

LONGER = 2 * pki.AUTHORITY_DAYS


@pytest.fixture
def server(tmp_path: Path) -> ServerConfig:
    return load_server(init_server(tmp_path / "server", hosts=["fl.example.org"]))


@pytest.fixture
def site(tmp_path: Path) -> SiteConfig:
    return load_site(init_site(tmp_path / "site", "va"))


def authority(server: ServerConfig) -> Path:
    return server.gateway.client_ca.parent


def let_in(site: SiteConfig, server: ServerConfig) -> None:
    install_site(approve(request_site(site), server, authority=authority(server)), site)


def end_authority(server: ServerConfig) -> None:
    """Let the authority's certificate have expired yesterday."""
    own = pki.load_authority(authority(server))
    ended = pki.sign_authority(own.key, own.certificate.subject, days=0)
    replace_public(authority(server) / "ca.crt", ended.pem())


def connect(server: ServerConfig, site: LinkTls | SiteConfig) -> None:
    """Connect a site's link to the server's listener, in memory; raises `ssl.SSLError`."""
    section = server.server
    listener = listen_with(TlsFiles(section.certificate, section.private_key, section.client_ca))
    link = site if isinstance(site, LinkTls) else link_of(site)
    shake_hands(link.context, listener, name="fl.example.org")


def link_of(site: SiteConfig) -> LinkTls:
    return LinkTls(site.link.ca_certificate, site.link.certificate, site.link.private_key)


def test_what_was_signed_counts_as_before(server: ServerConfig, site: SiteConfig) -> None:
    let_in(site, server)
    before = read_certificate(server.gateway.client_ca)
    renewed = renew_authority(server, authority=authority(server), days=LONGER)
    assert (renewed.subject, renewed.public_key()) == (before.subject, before.public_key())
    assert renewed.not_valid_after_utc - before.not_valid_after_utc > dt.timedelta(days=3000)
    assert read_certificate(server.gateway.client_ca) == renewed
    assert site.link.certificate is not None
    for path in (server.server.certificate, site.link.certificate):
        read_certificate(path).verify_directly_issued_by(renewed)
    connect(server, site)  # which still has the old certificate of the authority


def test_after_the_last_day_nobody_connects_until_both_sides_have_the_renewed_one(
    server: ServerConfig, site: SiteConfig
) -> None:
    end_authority(server)
    let_in(site, server)
    link = link_of(site)
    with pytest.raises(ssl.SSLError, match="expired"):
        connect(server, link)
    renew_authority(server, authority=authority(server))
    with pytest.raises(ssl.SSLError, match="expired"):
        connect(server, link)
    let_in(site, server)
    link.renew()
    connect(server, link)  # the same link, as it runs
    connect(server, site)


def test_who_was_revoked_stays_revoked(server: ServerConfig, site: SiteConfig) -> None:
    let_in(site, server)
    revoke("va", server, authority=authority(server))
    before = revoked_serials(server.gateway.client_ca)
    renew_authority(server, authority=authority(server), days=LONGER)
    assert revoked_serials(server.gateway.client_ca) == before != frozenset()
    listed = x509.load_pem_x509_crl(list_path(server.gateway.client_ca).read_bytes())
    # A list past its day would shut everybody out.
    assert listed.next_update_utc == not_after(server.gateway.client_ca)
    with pytest.raises(ssl.SSLError, match="revoked"):
        connect(server, site)


def test_it_comes_with_the_next_answer_and_an_older_one_takes_nothing_back(
    server: ServerConfig, site: SiteConfig, tmp_path: Path
) -> None:
    ann = tmp_path / "ann"
    older = [
        approve(request, server, authority=authority(server))
        for request in (request_site(site), request_person(ann, "ann", role="submitter"))
    ]
    install_site(older[0], site)
    install_person(older[1], ann)
    renewed = renew_authority(server, authority=authority(server), days=LONGER)
    let_in(site, server)
    asked = request_person(ann, "ann", role="submitter")
    install_person(approve(asked, server, authority=authority(server)), ann)
    for path in (site.link.ca_certificate, PersonKeys(ann, "ann").authority):
        assert read_certificate(path) == renewed
    install_site(older[0], site)
    assert read_certificate(site.link.ca_certificate) == renewed


def test_another_key_under_the_same_name_is_another_authority(
    server: ServerConfig, site: SiteConfig, tmp_path: Path
) -> None:
    let_in(site, server)
    own = pki.load_authority(authority(server))
    stranger = pki.sign_authority(
        ec.generate_private_key(ec.SECP384R1()), own.certificate.subject, days=LONGER
    )
    answer = approve(request_site(site), server, authority=authority(server))
    forged = answer.model_copy(update={"authority": stranger.pem().decode()})
    with pytest.raises(AuthenticationError, match="another federation"):
        install_site(forged, site)
    assert not is_same_authority(own.certificate, stranger.certificate)
    renamed = pki.sign_authority(
        own.key, pki.create_authority(tmp_path / "x", name="x").certificate.subject, days=LONGER
    )
    assert not is_same_authority(own.certificate, renamed.certificate)
    # Nor is whatever the authority signed the authority.
    assert not is_same_authority(own.certificate, read_certificate(server.server.certificate))


def test_whoever_knows_the_public_key_alone_makes_no_renewal(server: ServerConfig) -> None:
    own = pki.load_authority(authority(server)).certificate
    thief = ec.generate_private_key(ec.SECP384R1())
    now = dt.datetime.now(dt.UTC)
    shown = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(own.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=LONGER))
        .sign(thief, hashes.SHA384())
    )
    assert not is_same_authority(own, shown)
    assert not renews(own, shown)


def test_a_renewal_that_shortens_is_refused(server: ServerConfig) -> None:
    before = server.gateway.client_ca.read_bytes()
    with pytest.raises(InputError, match="already; name more days"):
        issued.renew_authority(authority(server), days=30)
    assert server.gateway.client_ca.read_bytes() == before
