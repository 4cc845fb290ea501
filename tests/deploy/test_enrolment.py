"""Two files let a newcomer in: what each must hold, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sordino_client.config import SiteConfig
from sordino_client.config import load_config as load_site
from sordino_deploy import issued, pki
from sordino_deploy.approving import approve, authority_directory, is_enrolled, revoke
from sordino_deploy.enrolment import (
    EnrolmentAnswer,
    EnrolmentRequest,
    make_request,
    read_answer,
    read_request,
    write_json,
)
from sordino_deploy.newcomers import (
    UNKNOWN_SERVER,
    init_site,
    install_person,
    install_site,
    request_person,
    request_site,
)
from sordino_deploy.server_setup import init_server, renew_server
from sordino_protocols.certificates import read_certificate, role
from sordino_protocols.errors import AuthenticationError, InputError, NotFoundError
from sordino_protocols.revocations import revoked_serials
from sordino_protocols.signing import REVOKED, load_signer, load_trust
from sordino_server.config import ServerConfig
from sordino_server.config import load_config as load_server
from sordino_server.registry import enrolled_sites


@pytest.fixture
def server(tmp_path: Path) -> ServerConfig:
    return load_server(init_server(tmp_path / "server", hosts=["fl.example.org", "10.0.0.7"]))


@pytest.fixture
def site(tmp_path: Path) -> SiteConfig:
    return load_site(init_site(tmp_path / "site", "va"))


def let_in(request: EnrolmentRequest, server: ServerConfig) -> EnrolmentAnswer:
    return approve(request, server, authority=authority_directory(server))


def carried(request: EnrolmentRequest, directory: Path) -> Path:
    path = directory / "x.request.json"
    path.write_bytes(write_json(request))
    return path


def test_a_site_is_let_in_by_two_files(
    server: ServerConfig, site: SiteConfig, tmp_path: Path
) -> None:
    request = read_request(carried(request_site(site), tmp_path))
    assert not is_enrolled(request.shown, server)
    (tmp_path / "answer").write_bytes(write_json(let_in(request, server)))
    install_site(read_answer(tmp_path / "answer"), site)

    section = server.server
    assert [each.name for each in enrolled_sites(section.sites, section.nodes)] == ["va"]
    config = load_site(site.directory / "site.toml")
    assert config.link.server == "fl.example.org:9443"
    assert config.link.certificate is not None
    assert role(read_certificate(config.link.certificate)) == "site"
    own = section.signing_key.with_suffix(".pub").read_text()
    assert config.site.server_key.read_text() == own
    assert config.link.ca_certificate.read_bytes() == server.gateway.client_ca.read_bytes()


def test_no_private_key_is_in_either_file(server: ServerConfig, site: SiteConfig) -> None:
    request = request_site(site)
    for text in (write_json(request), write_json(let_in(request, server))):
        assert b"PRIVATE" not in text
    for key in site.directory.rglob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600


def test_a_person_gets_a_profile(server: ServerConfig, tmp_path: Path) -> None:
    home = tmp_path / "ann"
    answer = let_in(request_person(home, "ann", role="submitter"), server)
    profile = install_person(answer, home)
    assert 'gateway = "fl.example.org:9444"' in profile.read_text()
    assert set(load_trust(server.server.submitters).keys) == {"ann"}
    with pytest.raises(NotFoundError, match="made elsewhere"):
        install_person(answer, tmp_path / "elsewhere")


def test_an_operator_signs_nothing(server: ServerConfig, tmp_path: Path) -> None:
    request = request_person(tmp_path / "olga", "olga", role="operator")
    for _ in range(2):  # nothing about an operator is on file, so each certificate is agreed to
        assert not is_enrolled(request.shown, server)
        let_in(request, server)
    assert load_trust(server.server.submitters).keys == {}


def test_every_altered_byte_is_noticed(site: SiteConfig, tmp_path: Path) -> None:
    good = json.loads(write_json(request_site(site)))
    other = json.loads(write_json(request_site(load_site(init_site(tmp_path / "other", "va")))))
    for section, keys in (("shown", good["shown"]), ("proofs", good["proofs"])):
        for key in set(keys) - {"name", "role"}:
            bad = json.loads(json.dumps(good))
            bad[section][key] = other[section][key]
            path = tmp_path / "bad.request.json"
            path.write_text(json.dumps(bad))
            with pytest.raises(AuthenticationError, match="altered"):
                read_request(path)
    for key, value in (("name", "vb"), ("role", "submitter")):
        bad = json.loads(json.dumps(good))
        bad["shown"][key] = value
        path.write_text(json.dumps(bad))
        with pytest.raises((AuthenticationError, InputError)):
            read_request(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "sordino-enrolment-request/2"}'])
def test_what_is_no_request_or_answer_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(InputError, match="expected a request"):
        read_request(tmp_path / "x")
    with pytest.raises(InputError, match="expected an answer"):
        read_answer(tmp_path / "x")


def test_somebody_elses_node_key_cannot_be_shown(site: SiteConfig, tmp_path: Path) -> None:
    shown = request_site(site).shown
    thief = ec.generate_private_key(ec.SECP384R1())
    assert site.link.private_key is not None
    forged = make_request(
        shown,
        load_signer(site.site.signing_key, "va"),
        certificate_key=pki.load_key(site.link.private_key),
        node_key=thief,
    )
    with pytest.raises(AuthenticationError, match="not its sender's own"):
        read_request(carried(forged, tmp_path))


def test_a_certificate_is_renewed_by_the_same_request(
    server: ServerConfig, site: SiteConfig
) -> None:
    install_site(let_in(request_site(site), server), site)
    assert site.link.certificate is not None
    first = read_certificate(site.link.certificate)
    request = request_site(site)
    assert is_enrolled(request.shown, server)
    install_site(let_in(request, server), site)
    second = read_certificate(site.link.certificate)
    assert second.serial_number != first.serial_number
    assert second.public_key() == first.public_key()
    assert len(issued.issued(authority_directory(server))) == 3


def test_the_servers_certificate_is_renewed_for_the_same_hosts(server: ServerConfig) -> None:
    before = read_certificate(server.server.certificate)
    renew_server(server, authority=authority_directory(server), days=30)
    after = read_certificate(server.server.certificate)
    assert pki.certificate_hosts(after) == pki.certificate_hosts(before)
    assert pki.certificate_hosts(after)[:2] == ("fl.example.org", "10.0.0.7")
    assert after.not_valid_after_utc < before.not_valid_after_utc
    assert after.public_key() == before.public_key()


def test_a_name_that_is_enrolled_gets_no_other_key(
    server: ServerConfig, site: SiteConfig, tmp_path: Path
) -> None:
    let_in(request_site(site), server)
    rival = request_site(load_site(init_site(tmp_path / "rival", "va")))
    with pytest.raises(InputError, match="enrolled with another key"):
        let_in(rival, server)
    assert len(issued.issued(authority_directory(server))) == 2


def test_who_is_revoked_needs_new_keys_to_come_back(
    server: ServerConfig, site: SiteConfig, tmp_path: Path
) -> None:
    authority = authority_directory(server)
    let_in(request_site(site), server)
    done = revoke("va", server, authority=authority)
    assert len(done) == 3
    section = server.server
    assert enrolled_sites(section.sites, section.nodes) == []
    assert set(load_trust(section.sites).revoked) == {"va"}
    assert (section.nodes / REVOKED / "va.pub").exists()
    (one,) = [each for each in issued.issued(authority) if each.name == "va"]
    assert one.is_revoked
    assert revoked_serials(server.gateway.client_ca) == {one.serial}
    with pytest.raises(InputError, match="was revoked"):
        let_in(request_site(site), server)
    let_in(request_site(load_site(init_site(tmp_path / "again", "va"))), server)
    assert [each.name for each in enrolled_sites(section.sites, section.nodes)] == ["va"]


@pytest.mark.parametrize("kept", ["keys/va.key", "link/va.node.key"])
def test_one_revoked_key_among_new_ones_lets_nobody_in(
    server: ServerConfig, site: SiteConfig, tmp_path: Path, kept: str
) -> None:
    let_in(request_site(site), server)
    revoke("va", server, authority=authority_directory(server))
    new = load_site(init_site(tmp_path / "new", "va"))
    (new.directory / kept).write_bytes((site.directory / kept).read_bytes())
    with pytest.raises(InputError, match="was revoked; new keys are needed"):
        let_in(request_site(new), server)
    assert enrolled_sites(server.server.sites, server.server.nodes) == []


def test_a_revoked_persons_jobs_are_trusted_no_more(server: ServerConfig, tmp_path: Path) -> None:
    let_in(request_person(tmp_path / "ann", "ann", role="submitter"), server)
    assert set(load_trust(server.server.submitters).keys) == {"ann"}
    revoke("ann", server, authority=authority_directory(server))
    trusted = load_trust(server.server.submitters)
    assert (set(trusted.keys), set(trusted.revoked)) == (set(), {"ann"})


def test_a_revoked_operators_key_gets_no_new_certificate(
    server: ServerConfig, tmp_path: Path
) -> None:
    request = request_person(tmp_path / "olga", "olga", role="operator")
    let_in(request, server)
    revoke("olga", server, authority=authority_directory(server))
    with pytest.raises(InputError, match="was revoked"):
        let_in(request, server)


def test_nobody_is_revoked_twice_or_unknown(server: ServerConfig, site: SiteConfig) -> None:
    let_in(request_site(site), server)
    revoke("va", server, authority=authority_directory(server))
    for name in ("va", "stranger"):
        with pytest.raises(NotFoundError, match="counts"):
            revoke(name, server, authority=authority_directory(server))


def test_an_answer_of_another_federation_is_refused(
    server: ServerConfig, site: SiteConfig, tmp_path: Path
) -> None:
    install_site(let_in(request_site(site), server), site)
    other = load_server(init_server(tmp_path / "other", hosts=["evil.example.org"]))
    with pytest.raises(AuthenticationError, match="another federation"):
        install_site(let_in(request_site(site), other), site)
    text = (site.directory / "site.toml").read_text()
    assert "fl.example.org" in text
    assert UNKNOWN_SERVER not in text


def test_an_answer_for_somebody_else_is_refused(
    server: ServerConfig, site: SiteConfig, tmp_path: Path
) -> None:
    other = load_site(init_site(tmp_path / "vb", "vb"))
    with pytest.raises(InputError, match="for the site 'vb'"):
        install_site(let_in(request_site(other), server), site)


def test_an_answer_of_a_server_by_another_name_is_refused(
    server: ServerConfig, site: SiteConfig
) -> None:
    answer = let_in(request_site(site), server)
    renamed = answer.server_key.replace(" server", " elsewhere")
    with pytest.raises(InputError, match=r"must be called elsewhere\.pub"):
        install_site(answer.model_copy(update={"server_key": renamed}), site)
    assert not site.site.server_key.exists()


def test_a_revocation_reaches_the_sites_door_where_that_has_a_list_of_its_own(
    server: ServerConfig, site: SiteConfig, tmp_path: Path
) -> None:
    door = tmp_path / "door" / "ca.crt"
    section = server.server.model_copy(update={"client_ca": door})
    server = dataclasses.replace(server, server=section)
    let_in(request_site(site), server)
    assert read_certificate(door) == read_certificate(server.gateway.client_ca)
    revoke("va", server, authority=authority_directory(server))
    assert revoked_serials(door) == revoked_serials(server.gateway.client_ca) != frozenset()


def test_an_authority_elsewhere_is_needed_to_sign_only(tmp_path: Path, site: SiteConfig) -> None:
    key = tmp_path / "safe"
    config = init_server(tmp_path / "server", hosts=["fl.example.org"], authority=key)
    server = load_server(config)
    assert list((tmp_path / "server").rglob("ca.key")) == []
    with pytest.raises(NotFoundError, match=r"ca\.key"):
        let_in(request_site(site), server)
    approve(request_site(site), server, authority=key)
    pki.create_authority(tmp_path / "wrong", name="wrong")
    with pytest.raises(InputError, match="is not the certificate of the authority"):
        approve(request_site(site), server, authority=tmp_path / "wrong")
    revoke("va", server, authority=key)
    assert len(revoked_serials(server.gateway.client_ca)) == 1


def test_nothing_is_made_twice(server: ServerConfig, site: SiteConfig, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="exists already"):
        init_site(site.directory, "va")
    with pytest.raises(InputError, match="exists already"):
        init_server(server.path.parent, hosts=["fl.example.org"])
    with pytest.raises(InputError, match="must be 1 to 64"):
        init_site(tmp_path / "x", "No Name")
    for hosts in (["no host"], []):
        with pytest.raises(InputError, match="host"):
            init_server(tmp_path / "x", hosts=hosts)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
